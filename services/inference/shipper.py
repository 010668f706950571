"""Ships the spool to Postgres: a thread, every quarter of a second, batch by batch.

Sending a line twice is harmless, so positions are kept in memory only: after a crash a segment is
sent from its beginning.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from services.inference.records import Line
from services.inference.spool import Spool
from shared.errors import Invalid, Unavailable
from shared.logging import get_logger

_log = get_logger(__name__)
# How often another process's leavings are looked for, in rounds.
_ADOPT_EVERY = 20

Store = Callable[[Sequence[Line]], None]


class Shipper:
    """Moves lines from a spool to a store."""

    def __init__(self, spool: Spool, store: Store, *, period_seconds: float, rows: int) -> None:
        """
        Args:
            spool: Where the lines are.
            store: Writes lines in one transaction; raises Unavailable when it cannot now, and
                Invalid when it never will.
            period_seconds: Pause between rounds.
            rows: Most lines in a transaction.
        """
        self._spool = spool
        self._store = store
        self._period = period_seconds
        self._rows = rows
        self._offsets: dict[Path, int] = {}
        self._caught_up = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shipper", daemon=True)

    @property
    def spool(self) -> Spool:
        """What is shipped."""
        return self._spool

    @property
    def waiting_bytes(self) -> int:
        """Bytes of this process that Postgres does not have yet."""
        paths = {segment.path for segment in self._spool.segments()}
        # Another thread ships meanwhile; its offsets are copied, not walked.
        shipped = sum(end for path, end in dict(self._offsets).items() if path in paths)
        return max(0, self._spool.waiting_bytes - shipped)

    @property
    def waiting_seconds(self) -> float:
        """How long something has been waiting, at most; 0 when nothing waits."""
        return time.monotonic() - self._caught_up if self.waiting_bytes else 0.0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ship what is there, if Postgres answers, and end."""
        self._stop.set()
        self._thread.join()
        self._round(adopts=False)

    def ship(self) -> None:
        """
        Ship all that waits in this process's files.

        Raises:
            Unavailable: Postgres does not answer; nothing is lost.
        """
        for segment in self._spool.segments():
            self._ship_file(segment.path)
            if not segment.is_open:
                self._finish(segment.path)
        self._caught_up = time.monotonic()

    def adopt(self) -> None:
        """
        Ship what dead processes of this host left.

        Raises:
            Unavailable: As `ship`.
        """
        # Closed at once on an error, so that the dead process's lock is free again.
        with closing(self._spool.abandoned()) as paths:
            for path in paths:
                _log.info("spool_adopted", segment=path.name)
                self._ship_file(path, is_final=True)
                self._finish(path)

    def _run(self) -> None:
        rounds = 0
        while not self._stop.wait(self._period if rounds else 0):
            self._round(adopts=rounds % _ADOPT_EVERY == 0)
            rounds += 1

    def _round(self, *, adopts: bool) -> None:
        try:
            self.ship()
            if adopts:
                self.adopt()
        except (Unavailable, OSError) as error:
            waiting = self.waiting_bytes
            _log.warning("records_waiting", waiting_bytes=waiting, reason=str(error))

    def _ship_file(self, path: Path, *, is_final: bool = False) -> None:
        for batch, end in self._batches(path, is_final=is_final):
            self._store_what_can_be(batch)
            self._offsets[path] = end

    def _finish(self, path: Path) -> None:
        self._spool.remove(path)
        self._offsets.pop(path, None)

    def _batches(self, path: Path, *, is_final: bool) -> Iterator[tuple[list[bytes], int]]:
        batch: list[bytes] = []
        with path.open("rb") as file:
            file.seek(self._offsets.get(path, 0))
            for raw in file:
                # An unfinished last line is still being written, or its process died in between.
                if not raw.endswith(b"\n") and not is_final:
                    break
                batch.append(raw)
                if len(batch) == self._rows:
                    yield batch, self._offsets.get(path, 0) + sum(map(len, batch))
                    batch = []
        if batch:
            yield batch, self._offsets.get(path, 0) + sum(map(len, batch))

    def _store_what_can_be(self, batch: Sequence[bytes]) -> None:
        lines = [line for line in map(self._decoded, batch) if line is not None]
        if lines:
            self._store_or_split(lines)

    def _store_or_split(self, lines: Sequence[Line]) -> None:
        try:
            self._store(lines)
        except Invalid:
            if len(lines) > 1:
                middle = len(lines) // 2
                self._store_or_split(lines[:middle])
                self._store_or_split(lines[middle:])
                return
            self._store_a_part(lines[0])

    def _store_a_part(self, line: Line) -> None:
        """Of a line that Postgres refuses: what it takes, the fact of an answer at least."""
        self._spool.put_aside(line.encode())
        parts = [replace(line, content=None), replace(line, content=None, stored=None)]
        for part in parts:
            if part != line:
                with suppress(Invalid):
                    self._store([part])
                    return

    def _decoded(self, raw: bytes) -> Line | None:
        try:
            return Line.decode(raw)
        except ValueError:
            if raw.endswith(b"\n"):
                self._spool.put_aside(raw)
            else:
                # Its process died while it wrote; nobody was told that it was appended.
                _log.warning("record_cut_off", bytes=len(raw))
            return None
