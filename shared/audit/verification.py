"""Checking an export of an audit log with nothing but the log's public key.

The export is not trusted: every hash is computed again, and only what comes out as a signed root
counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from shared.audit.checkpoint import Checkpoint
from shared.audit.export import is_entry, note_of, origin_of, parse_entry
from shared.audit.note import Verifier
from shared.audit.tree import EMPTY_ROOT, Edge
from shared.errors import Corrupt

# A log may hold a checkpoint per entry, and a signature costs as much as a hundred entries.
_SIGNATURE_EVERY = 256


@dataclass(frozen=True, slots=True)
class Fault:
    """
    Where a log is not what was signed.

    Attributes:
        first: Lowest sequence number that may be wrong; all below it are as signed.
        last: Highest one that may be the first wrong one; the same where that is known exactly.
        problem: What contradicts what.
    """

    first: int
    last: int
    problem: str


@dataclass(frozen=True, slots=True)
class Report:
    """
    What verification found.

    Attributes:
        origin: Of the log.
        size: Number of entries that are as signed, from the first on.
        root: Of the tree over them, hexadecimal.
        checkpoints: Checkpoints in the export that agree.
        anchors: Checkpoints kept elsewhere that agree.
        fault: None when everything holds.
    """

    origin: str
    size: int
    root: str
    checkpoints: int
    anchors: int
    fault: Fault | None


def verify_export(
    lines: Iterable[bytes], verifier: Verifier, anchors: Sequence[Checkpoint] = ()
) -> Report:
    """
    Compute every hash of an export anew and compare with what was signed.

    Args:
        lines: Of the export.
        verifier: The log's public key, got from somewhere else than the export.
        anchors: Checkpoints of this log seen earlier or kept by a witness, signatures checked.

    Raises:
        Corrupt: It is no export at all.
    """
    check = _Verification(verifier, anchors)
    fault = None
    try:
        check.run(iter(lines))
    except _Found as found:
        fault = found.fault
    signed = check.signed
    return Report(
        origin=check.origin,
        size=signed.size,
        root=signed.root.hex(),
        checkpoints=check.checkpoints,
        anchors=check.anchors,
        fault=fault,
    )


class _Found(Exception):
    def __init__(self, first: int, problem: str, last: int | None = None) -> None:
        super().__init__(problem)
        self.fault = Fault(first, max(first, last or 0), problem)


class _Verification:
    """One pass over an export, in memory of the tree's height."""

    def __init__(self, verifier: Verifier, anchors: Sequence[Checkpoint]) -> None:
        self.origin = ""
        self.checkpoints = 0
        self.anchors = 0
        # The newest checkpoint whose signature was checked; what it covers is beyond doubt.
        self.signed = Checkpoint("", 0, EMPTY_ROOT)
        self._verifier = verifier
        self._pending = sorted(anchors, key=lambda anchor: anchor.size, reverse=True)
        self._edge = Edge()
        # The newest note whose root agrees, signed or not.
        self._newest = ""
        # The first entry that is not what its own leaf is the hash of.
        self._changed: int | None = None

    def run(self, lines: Iterator[bytes]) -> None:
        self.origin = origin_of(next(lines, b""))
        for line in lines:
            if is_entry(line):
                self._take_entry(line)
            elif line.strip():
                self._take_checkpoint(line)
        self._end()

    def _take_entry(self, line: bytes) -> None:
        expected = self._edge.size
        entry = parse_entry(line)
        if entry is None:
            raise _Found(expected, "the line is no entry")
        if entry.seq != expected:
            raise _Found(expected, f"entry {entry.seq} stands where {expected} belongs")
        if self._changed is None and entry.hashed != entry.leaf:
            self._changed = expected
        # The stated leaf may be right where the entry was changed: the roots will tell.
        self._edge.append(entry.leaf)
        while self._pending and self._pending[-1].size == self._edge.size:
            self._compare(self._pending.pop(), "kept elsewhere")
            self.anchors += 1

    def _take_checkpoint(self, line: bytes) -> None:
        note = note_of(line)
        size = self._edge.size
        try:
            checkpoint = Checkpoint.parse(note)
        except Corrupt as error:
            raise _Found(self._surely(), f"behind entry {size - 1}: {error.message}") from error
        if checkpoint.origin != self.origin or checkpoint.size != size:
            raise _Found(
                min(checkpoint.size, size),
                f"a checkpoint of {checkpoint.size} entries of {checkpoint.origin} stands behind "
                f"{size} entries of {self.origin}",
            )
        self._compare(checkpoint, "in the export")
        self.checkpoints += 1
        self._newest = note
        if size - self.signed.size >= _SIGNATURE_EVERY and self._surely() != size:
            raise self._unsigned()

    def _compare(self, checkpoint: Checkpoint, where: str) -> None:
        if checkpoint.root != self._edge.root():
            raise _Found(
                self._surely(),
                f"the checkpoint of {checkpoint.size} entries {where} has another root",
                checkpoint.size - 1,
            )
        if self._changed is not None:
            raise _Found(self._changed, "the entry is not the one that was sealed")

    def _end(self) -> None:
        size = self._edge.size
        if not self._newest:
            raise _Found(0, "there is no checkpoint", size - 1)
        if self._surely() != Checkpoint.parse(self._newest).size:
            raise self._unsigned()
        if self.signed.size != size:
            raise _Found(self.signed.size, "no checkpoint covers the last entries")
        if self._pending:
            raise _Found(
                size,
                f"a checkpoint of {self._pending[0].size} entries was signed, and the export ends "
                "before: its end was cut off, or the log was restored from a backup",
            )

    def _surely(self) -> int:
        """How many entries are beyond doubt; checks the signature of the newest checkpoint."""
        try:
            newest = Checkpoint.opened(self._newest, self._verifier)
        except Corrupt:
            return self.signed.size
        if newest == Checkpoint.parse(self._newest):
            self.signed = newest
        return self.signed.size

    def _unsigned(self) -> _Found:
        key = f"{self._verifier.name}+{self._verifier.key_id.hex()}"
        return _Found(
            self.signed.size, f"the newest checkpoint is not signed by {key}", self._edge.size - 1
        )
