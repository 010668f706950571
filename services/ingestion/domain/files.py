"""Checks of a whole training file: rows, size, duplicates."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from services.ingestion.domain.findings import Finding, error, has_errors, warning
from services.ingestion.domain.messages import canonical
from services.ingestion.domain.rows import Format, check_row, format_of
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
        wanted: Format of the rows; that of the first row where none was asked for.
        rows: The rows that could be parsed, in order.
        findings: At most 1,000, in order of discovery.
    """

    wanted: Format | None = None
    rows: list[Row] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def has_errors(self) -> bool:
        return has_errors(self.findings)


def check_training_file(
    chunks: Iterable[bytes], *, min_rows: int = MIN_ROWS, wanted: Format | None = None
) -> FileCheck:
    """
    Check a file of training rows.

    Args:
        chunks: Its bytes.
        min_rows: Fewer rows are an error.
        wanted: Format of all rows; None is that of the first.
    """
    check = FileCheck(wanted=wanted)
    seen: dict[bytes, int] = {}
    try:
        for line in read_lines(chunks):
            if len(check.findings) >= _MAX_FINDINGS:
                break
            _check_line(check, seen, line)
    except Invalid as refused:
        check.findings.append(
            error(refused.code, None, "", refused.message, "Then upload the file again.")
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
        said = refused.message.removeprefix(f"Line {line.number}: ")
        check.findings.append(
            error("invalid_json", line.number, "", said, "Mend or remove the line.")
        )
        return
    check.wanted = check.wanted or format_of(value)
    check.findings.extend(check_row(value, line.number, check.wanted))
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
