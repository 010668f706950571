"""Findings: what is wrong, where, how badly, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable
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


def has_errors(findings: Iterable[Finding]) -> bool:
    """Whether any of them fails a job."""
    return any(finding.severity is Severity.ERROR for finding in findings)


def first_error(findings: list[Finding]) -> Finding | None:
    """
    The error that a failed job names: the one on the earliest line.

    What concerns the whole file comes last, since a broken line may be its cause.
    """
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    return min(errors, key=_place, default=None)


def _place(finding: Finding) -> tuple[bool, int]:
    return finding.line is None, finding.line or 0
