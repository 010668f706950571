"""Reads training files into token rows."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.finetuning.train.batches import Row
from shared.errors import Invalid
from shared.rendering.bases import BaseModel
from shared.rendering.chat import render


@dataclass(frozen=True)
class Notice:
    """Something the owner of the file should know; training goes on."""

    code: str
    message: str


_NOTICES = {
    "rows_truncated": "longer than {limit} tokens; their end is cut off",
    "rows_without_target": "without an assistant message to learn; they are left out",
    "tools_not_rendered": "with tool definitions, which this base is not shown",
}


def read_rows(base: BaseModel, path: Path, max_tokens: int) -> tuple[list[Row], list[Notice]]:
    """
    Rows of a JSONL file in OpenAI's chat format, and what was noticed about them.

    Raises:
        Invalid: A line is no example, or no row has anything to learn; the message names the line.
        OSError: The file cannot be read.
    """
    rows: list[Row] = []
    noticed: dict[str, list[int]] = defaultdict(list)
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        example = _parse(line, path.name, number)
        row = _row(base, example, path.name, number)
        if example.get("tools") or example.get("functions"):
            noticed["tools_not_rendered"].append(number)
        if len(row.token_ids) > max_tokens:
            noticed["rows_truncated"].append(number)
            row = Row(row.token_ids[:max_tokens], row.trained[:max_tokens])
        if any(row.trained):
            rows.append(row)
        else:
            noticed["rows_without_target"].append(number)
    if not rows:
        raise Invalid(
            f"{path.name} has no row with an assistant message to learn.",
            code="no_trainable_rows",
            param=path.stem,
        )
    return rows, [_notice(code, lines, path.name, max_tokens) for code, lines in noticed.items()]


def _parse(line: str, file: str, number: int) -> Mapping[str, Any]:
    try:
        example = json.loads(line)
    except ValueError as error:
        raise _invalid(file, number, f"is not JSON ({error})") from error
    if not isinstance(example, dict) or not isinstance(example.get("messages"), list):
        raise _invalid(file, number, 'has no list "messages"')
    return example


def _row(base: BaseModel, example: Mapping[str, Any], file: str, number: int) -> Row:
    try:
        rendered = render(base, example["messages"], add_generation_prompt=False)
    except Invalid as error:
        raise _invalid(file, number, f"cannot be written as a chat: {error.message}") from error
    return Row(rendered.token_ids, rendered.trained)


def _invalid(file: str, number: int, problem: str) -> Invalid:
    code = "invalid_validation_file" if file.startswith("validation") else "invalid_training_file"
    return Invalid(f"{file}, line {number} {problem}.", code=code, param=f"line {number}")


def _notice(code: str, lines: list[int], file: str, limit: int) -> Notice:
    shown = ", ".join(map(str, lines[:5])) + (", ..." if len(lines) > 5 else "")
    what = _NOTICES[code].format(limit=limit)
    return Notice(code, f"{file}: {len(lines)} rows {what} (lines {shown}).")
