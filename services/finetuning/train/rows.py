"""Reads training files into token rows."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from services.finetuning.train.batches import Pair, Row
from shared.errors import Invalid
from shared.rendering.bases import BaseModel
from shared.rendering.chat import render
from shared.rendering.preferences import conversations_of
from shared.rendering.tools import functions_of


@dataclass(frozen=True)
class Notice:
    """Something the owner of the file should know; training goes on."""

    code: str
    message: str


_NOTICES = {
    "rows_truncated": "longer than {limit} tokens; their end is cut off",
    "rows_without_target": "without an assistant message to learn; they are left out",
}


def read_rows(base: BaseModel, path: Path, max_tokens: int) -> tuple[list[Row], list[Notice]]:
    """
    Rows of a JSONL file in OpenAI's chat format, and what was noticed about them.

    Raises:
        Invalid: A line is no example, or no row has anything to learn; the message names the line.
        OSError: The file cannot be read.
    """
    reader = _Reader(base, path, max_tokens)
    rows: list[Row] = []
    for number, example in reader.examples():
        if not isinstance(example.get("messages"), list):
            raise _invalid(path.name, number, 'has no list "messages"')
        row = reader.row(example["messages"], number, functions_of(example))
        if any(row.trained):
            rows.append(row)
        else:
            reader.noticed["rows_without_target"].append(number)
    return reader.whole(rows), reader.notices


def read_pairs(base: BaseModel, path: Path, max_tokens: int) -> tuple[list[Pair], list[Notice]]:
    """
    Pairs of a JSONL file in OpenAI's preference format, and what was noticed about them.

    Raises:
        Invalid: A line is no pair, or no pair has anything to prefer; the message names the line.
        OSError: The file cannot be read.
    """
    reader = _Reader(base, path, max_tokens)
    pairs: list[Pair] = []
    for number, example in reader.examples():
        try:
            conversations = conversations_of(example)
        except Invalid as error:
            raise _invalid(path.name, number, error.message) from error
        functions = functions_of(example["input"])
        chosen, rejected = (reader.row(each, number, functions) for each in conversations)
        if any(chosen.trained) and any(rejected.trained):
            pairs.append(Pair(chosen, rejected))
        else:
            reader.noticed["rows_without_target"].append(number)
    return reader.whole(pairs), reader.notices


E = TypeVar("E")


class _Reader:
    """One file, its lines and what was noticed about them."""

    def __init__(self, base: BaseModel, path: Path, max_tokens: int) -> None:
        self._base = base
        self._path = path
        self._max_tokens = max_tokens
        self.noticed: defaultdict[str, list[int]] = defaultdict(list)

    @property
    def notices(self) -> list[Notice]:
        name, most = self._path.name, self._max_tokens
        # A pair is noticed once, however many of its answers are cut.
        return [
            _notice(code, list(dict.fromkeys(lines)), name, most)
            for code, lines in self.noticed.items()
        ]

    def examples(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Numbers, from 1, and objects of the lines that are not blank."""
        text = self._path.read_text(encoding="utf-8-sig")
        # Not `splitlines`: a text may hold other characters that end a line, and JSON does not.
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield number, _parse(line, self._path.name, number)

    def row(
        self,
        messages: Sequence[Mapping[str, Any]],
        number: int,
        functions: Sequence[Mapping[str, Any]],
    ) -> Row:
        """A conversation as tokens, cut at the end where it is too long."""
        row = self._rendered(messages, number, functions)
        if row.n_tokens <= self._max_tokens:
            return row
        self.noticed["rows_truncated"].append(number)
        return Row(row.token_ids[: self._max_tokens], row.trained[: self._max_tokens])

    def _rendered(
        self,
        messages: Sequence[Mapping[str, Any]],
        number: int,
        functions: Sequence[Mapping[str, Any]],
    ) -> Row:
        try:
            rendered = render(
                self._base, messages, add_generation_prompt=False, functions=functions
            )
        except Invalid as error:
            raise _invalid(
                self._path.name, number, f"cannot be written as a chat: {error.message}"
            ) from error
        return Row(rendered.token_ids, rendered.trained)

    def whole(self, found: list[E]) -> list[E]:
        """
        Raises:
            Invalid: There is nothing to learn from.
        """
        if not found:
            raise Invalid(
                f"{self._path.name} has no row with an assistant message to learn.",
                code="no_trainable_rows",
                param=self._path.stem,
            )
        return found


def _parse(line: str, file: str, number: int) -> Mapping[str, Any]:
    try:
        example = json.loads(line)
    except ValueError as error:
        raise _invalid(file, number, f"is not JSON ({error})") from error
    if not isinstance(example, dict):
        raise _invalid(file, number, "is no object")
    return example


def _invalid(file: str, number: int, problem: str) -> Invalid:
    code = "invalid_validation_file" if file.startswith("validation") else "invalid_training_file"
    return Invalid(f"{file}, line {number} {problem}.", code=code, param=f"line {number}")


def _notice(code: str, lines: list[int], file: str, limit: int) -> Notice:
    shown = ", ".join(map(str, lines[:5])) + (", ..." if len(lines) > 5 else "")
    what = _NOTICES[code].format(limit=limit)
    return Notice(code, f"{file}: {len(lines)} rows {what} (lines {shown}).")
