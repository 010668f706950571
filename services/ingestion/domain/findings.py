"""Findings: what is wrong, where, how badly, and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """An error fails a job that uses the file; a warning and an info do not."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """
    Attributes:
        rule: Stable name of the check.
        severity: What follows from it.
        message: What was found.
        fix: What to do.
        line: Line of the file, from 1; None where it concerns the whole file.
        pointer: JSON pointer into the row (RFC 6901), or empty.
    """

    rule: str
    severity: Severity
    message: str
    fix: str
    line: int | None = None
    pointer: str = ""

    def sentence(self) -> str:
        """For a job's error: where, what and the way out."""
        where = f"Line {self.line}" if self.line is not None else "The file"
        place = f" at {self.pointer}" if self.pointer else ""
        return f"{where}{place}: {self.message} {self.fix}"


def error(rule: str, line: int | None, pointer: str, message: str, fix: str) -> Finding:
    """A finding that fails jobs."""
    return Finding(rule, Severity.ERROR, message, fix, line, pointer)


def warning(rule: str, line: int | None, pointer: str, message: str, fix: str) -> Finding:
    """A finding that people should look at."""
    return Finding(rule, Severity.WARNING, message, fix, line, pointer)


def first_error(findings: list[Finding]) -> Finding | None:
    """The error that a failed job names: the one on the earliest line."""
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    return min(errors, key=lambda finding: finding.line or 0, default=None)
