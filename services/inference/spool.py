"""The spool: records in files of this host until Postgres has them.

A line is handed to the operating system by one write, so a killed process loses nothing. Every
process has files of its own, held by a lock that the system drops when it dies; then another
process ships what is left. A segment is `<boot>-<number>.jsonl`.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from services.inference.records import Content, Line, Record, StoredCompletion
from shared.ids import uuid7
from shared.logging import get_logger

_log = get_logger(__name__)
_POISON = "poison"


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of lines; `is_open` while its process may still append to it."""

    path: Path
    is_open: bool


class Spool:
    """Appends the records of this process, and hands out what has to be shipped."""

    def __init__(self, folder: Path, *, segment_bytes: int, max_bytes: int) -> None:
        """
        Args:
            folder: Shared by all processes of this host.
            segment_bytes: Size at which a new file is begun.
            max_bytes: Most bytes of this process that wait; what is over is dropped and counted.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._max_bytes = max_bytes
        self._mutex = threading.Lock()
        self.boot, self._held = _claim(folder)
        self.appended = 0
        self.dropped = 0
        self.poisoned = 0
        self._waiting: dict[Path, int] = {}
        self._number = 0
        self._file = self._begin()

    def append(
        self, record: Record, content: Content | None, stored: StoredCompletion | None = None
    ) -> None:
        """Write one record; it is dropped and counted when there is no room. Never raises."""
        with self._mutex:
            line = Line(self.boot, self.appended, record, content, stored).encode()
            # A dropped record keeps its number, so that the gap shows in Postgres.
            self.appended += 1
            if sum(self._waiting.values()) + len(line) > self._max_bytes or not self._write(line):
                self.dropped += 1
                _log.error("record_dropped", dropped=self.dropped, folder=str(self._folder))

    def segments(self) -> list[Segment]:
        """The files of this process, oldest first."""
        with self._mutex:
            current = self._path(self._number)
            return [Segment(path, is_open=path == current) for path in sorted(self._waiting)]

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the files of this process; some lines of the current one may be shipped."""
        with self._mutex:
            return sum(self._waiting.values())

    def folder_bytes(self) -> tuple[int, int]:
        """Bytes of all processes' files on this host, and of the lines that were put aside."""
        sizes = {path.stem: _size(path) for path in self._folder.glob("*.jsonl")}
        poisoned = sizes.pop(_POISON, 0)
        return sum(sizes.values()), poisoned

    def rotate(self) -> None:
        """Close the current file, unless it is empty, and begin a new one."""
        with self._mutex:
            if self._waiting[self._path(self._number)]:
                self._rotate()

    def remove(self, path: Path) -> None:
        """A file whose lines are all in Postgres."""
        with self._mutex:
            self._waiting.pop(path, None)
            path.unlink(missing_ok=True)

    def put_aside(self, raw: bytes) -> None:
        """A line that cannot be stored; it must not hold up the others."""
        with self._mutex, (self._folder / f"{_POISON}.jsonl").open("ab") as file:
            file.write(raw.rstrip(b"\n") + b"\n")
        self.poisoned += 1
        _log.error("record_poisoned", poisoned=self.poisoned, folder=str(self._folder))

    def abandoned(self) -> Generator[Path, None, None]:
        """Files of processes that are dead, each held by this process while it is yielded."""
        for lock in sorted(self._folder.glob("*.lock")):
            held = None if lock.stem == self.boot else _lock(lock)
            if held is None:
                continue
            try:
                yield from sorted(self._folder.glob(f"{lock.stem}-*.jsonl"))
                if not list(self._folder.glob(f"{lock.stem}-*.jsonl")):
                    lock.unlink(missing_ok=True)
            finally:
                os.close(held)

    def close(self) -> None:
        """Nothing is appended after this; what is not shipped is left for another process."""
        with self._mutex:
            os.close(self._file)
            if not any(self._waiting.values()):
                for path in self._waiting:
                    path.unlink(missing_ok=True)
                (self._folder / f"{self.boot}.lock").unlink(missing_ok=True)
            os.close(self._held)

    def _write(self, line: bytes) -> bool:
        path = self._path(self._number)
        size = self._waiting[path]
        try:
            is_whole = os.write(self._file, line) == len(line)
        except OSError:
            is_whole = False
        if not is_whole:
            # Half a line would spoil the next one too.
            with suppress(OSError):
                os.ftruncate(self._file, size)
            return False
        self._waiting[path] = size + len(line)
        if self._waiting[path] >= self._segment_bytes:
            self._rotate()
        return True

    def _rotate(self) -> None:
        os.close(self._file)
        self._number += 1
        self._file = self._begin()

    def _begin(self) -> int:
        path = self._path(self._number)
        self._waiting[path] = 0
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _path(self, number: int) -> Path:
        return self._folder / f"{self.boot}-{number:08d}.jsonl"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # shipped a moment ago
        return 0


def _lock(path: Path) -> int | None:
    """A descriptor that holds the lock, or None when somebody else does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever held it before may have removed it meanwhile; then this is nobody's file.
        is_there = os.fstat(descriptor).st_ino == path.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        is_there = False
    if is_there:
        return descriptor
    os.close(descriptor)
    return None


def _claim(folder: Path) -> tuple[str, int]:
    """A boot id of this process and the lock on its files."""
    while True:
        boot = uuid7().hex
        # Between making and locking it, another process may take it for a dead one's.
        held = _lock(folder / f"{boot}.lock")
        if held is not None:
            return boot, held
