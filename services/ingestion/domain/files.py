"""Checks of a whole training file: rows, size, duplicates."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from services.ingestion.domain.findings import Finding, Severity, error, warning
from services.ingestion.domain.rows import canonical, check_row
from shared.errors import Invalid
from shared.jsonl import Line, parse_object, read_lines

MIN_ROWS = 10
# A file with more findings has one cause, not a thousand.
_MAX_FINDINGS = 1000


@dataclass(frozen=True, slots=True)
class Row:
    """A row and where it stands in its file."""

    line: int
    value: dict[str, Any]


@dataclass
class FileCheck:
    """What a pass over a file found.

    Attributes:
        rows: The rows that could be parsed, in order.
        findings: At most 1,000, in order of discovery.
    """

    rows: list[Row] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def has_errors(self) -> bool:
        return any(finding.severity is Severity.ERROR for finding in self.findings)


def check_training_file(chunks: Iterable[bytes], *, min_rows: int = MIN_ROWS) -> FileCheck:
    """
    Check a file of training rows.

    Args:
        chunks: Its bytes.
        min_rows: Fewer rows are an error.
    """
    check = FileCheck()
    seen: dict[bytes, int] = {}
    try:
        for line in read_lines(chunks):
            if len(check.findings) >= _MAX_FINDINGS:
                break
            _check_line(check, seen, line)
    except Invalid as refused:
        check.findings.append(
            error(refused.code, None, "", refused.message, "Split the example and upload again.")
        )
    if len(check.rows) < min_rows:
        check.findings.append(
            error(
                "too_few_rows",
                None,
                "",
                f"The file has {len(check.rows)} usable rows; at least {min_rows} are needed.",
                "Add examples; 50 to 100 are where improvement usually shows.",
            )
        )
    return check


def _check_line(check: FileCheck, seen: dict[bytes, int], line: Line) -> None:
    try:
        value = parse_object(line)
    except Invalid as refused:
        check.findings.append(
            error("invalid_json", line.number, "", refused.message, "Mend or remove the line.")
        )
        return
    check.findings.extend(check_row(value, line.number))
    check.rows.append(Row(line.number, value))
    digest = hashlib.sha256(canonical(value).encode()).digest()
    first = seen.setdefault(digest, line.number)
    if first != line.number:
        check.findings.append(
            warning(
                "exact_duplicate",
                line.number,
                "",
                f"The row equals line {first}.",
                "Remove one; a repeated row weighs double.",
            )
        )
