"""
The journal of an import: what has been done, so that it is not done again.

One JSON object a line, appended and forced to the disk before the next thing is done. A process
that dies leaves at most half a line, which the next one drops.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict

from services.cli.connection import Json
from services.cli.errors import CommandFailed
from services.cli.imports.spending import Tokens


class Golden(BaseModel):
    """
    What the old model answered to a case.

    Attributes:
        answer: Its words, calls of tools written as in training; None where it failed, and then
            *error* says how.
        latency_ms: From request to whole answer, if it was measured.
        input_tokens, output_tokens: As the old service counted them, if it did.
        is_cut: It reached the longest length.
        is_refused: The prompt was turned away, which costs nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    answer: str | None
    error: str | None = None
    latency_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    is_cut: bool = False
    is_refused: bool = False


class Journal:
    """
    Held by one process at a time.

    Attributes:
        goldens: By number of the case.
    """

    def __init__(self, file: BinaryIO, entries: list[Json]) -> None:
        self._file = file
        self._entries: list[Json] = []
        self.goldens: dict[int, Golden] = {}
        # What each question was reserved and has not been accounted for: it is under way, or its
        # answer was lost, and the service may have charged for it.
        self._open: dict[int, list[Tokens]] = {}
        self._answered: list[Tokens] = []
        for entry in entries:
            self._take(entry)

    def find(self, kind: str, **marks: object) -> Json | None:
        """The newest entry of a kind with all *marks*, or None."""
        for entry in reversed(self._entries):
            if entry["kind"] == kind and marks.items() <= entry.items():
                return entry
        return None

    def note(self, kind: str, **facts: object) -> Json:
        """Write an entry down for good; returns it."""
        entry = {"kind": kind, **facts}
        self._file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._take(entry)
        return entry

    def note_asking(self, case: int, reserved: Tokens) -> None:
        """Before a question: what it may take."""
        self.note("asking", case=case, input=reserved.input, output=reserved.output)

    def note_unbilled(self, case: int) -> None:
        """The question last asked was turned away and costs nothing."""
        self.note("unbilled", case=case)

    def note_golden(self, case: int, golden: Golden) -> None:
        self.note("golden", case=case, **golden.model_dump())

    @property
    def spent(self) -> Tokens:
        """Tokens of all answers, and the most that questions without a known answer took."""
        total = Tokens(0, 0)
        for tokens in self._answered:
            total += tokens
        for reserved in self._open.values():
            for tokens in reserved:
                total += tokens
        return total

    def _take(self, entry: Json) -> None:
        self._entries.append(entry)
        match entry["kind"]:
            case "asking":
                reserved = Tokens(entry["input"], entry["output"])
                self._open.setdefault(entry["case"], []).append(reserved)
            case "unbilled":
                self._open[entry["case"]].pop()
            case "golden":
                fields = {name: entry[name] for name in Golden.model_fields if name in entry}
                self._answer(entry["case"], Golden.model_validate(fields))

    def _answer(self, case: int, golden: Golden) -> None:
        self.goldens[case] = golden
        reserved = self._open.get(case)
        if not reserved:
            return
        most = reserved.pop()
        if golden.input_tokens is not None and golden.output_tokens is not None:
            self._answered.append(Tokens(golden.input_tokens, golden.output_tokens))
        elif not golden.is_refused:
            # A service that does not count is taken to have charged what was reserved.
            self._answered.append(most)


@contextmanager
def opened(path: Path) -> Iterator[Journal]:
    """
    The journal of a file, which is made if it is missing.

    Raises:
        CommandFailed: Another process holds it, or a line in its middle is broken.
    """
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b") as file:
        _hold(file, path)
        _force_name(path)
        yield Journal(file, _entries(file, path))


def read(path: Path) -> Journal | None:
    """The journal as it stands, for looking only; None where there is none."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        lines = file.read().split(b"\n")[:-1]
        return Journal(file, [_parsed(line, path) for line in lines])


def _hold(file: BinaryIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise CommandFailed(
            f"Another process carries out the import of {path.parent}; wait for its end."
        ) from error


def _entries(file: BinaryIO, path: Path) -> list[Json]:
    content = file.read()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        file.truncate(whole)
        os.fsync(file.fileno())
    return [_parsed(line, path) for line in content[:whole].split(b"\n")[:-1]]


def _parsed(line: bytes, path: Path) -> Json:
    try:
        entry = json.loads(line)
        if isinstance(entry, dict) and isinstance(entry.get("kind"), str):
            return entry
    except ValueError:
        pass
    raise CommandFailed(
        f"{path} has a broken line in its middle, so what was done is not known. Restore it from a "
        "backup, or remove the folder and import anew."
    )


def _force_name(path: Path) -> None:
    """Make a new file's name as durable as its content."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
