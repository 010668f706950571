"""That one entry is in a log, shown without the others (c2sp.org/tlog-proof).

The entry itself travels in the field for extra data, since its hash is what the proof begins with.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from shared.audit.checkpoint import Checkpoint
from shared.audit.export import Line, is_entry, note_of, origin_of, parse_entry
from shared.audit.note import Verifier
from shared.audit.tree import hash_leaf, inclusion_proof, root_of, verify_inclusion
from shared.errors import Corrupt, Missing

FORMAT = "c2sp.org/tlog-proof@v1"

_PROOF = re.compile(
    re.escape(FORMAT) + r"\nextra (?P<extra>(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2,3}={1,2})?)"
    r"\nindex (?P<index>0|[1-9][0-9]*)\n(?P<path>(?:[A-Za-z0-9+/]{43}=\n)*)\n(?P<note>.+)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Proof:
    """
    Attributes:
        content: The entry in canonical form.
        index: Its sequence number.
        path: Hashes from its neighbour up to below the root.
        note: The signed checkpoint with that root.
    """

    content: bytes
    index: int
    path: tuple[bytes, ...]
    note: str

    def __str__(self) -> str:
        head = (FORMAT, f"extra {_encoded(self.content)}", f"index {self.index}")
        return "\n".join([*head, *map(_encoded, self.path), "", self.note])

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Raises:
            Corrupt: It is no proof of ours.
        """
        found = _PROOF.fullmatch(text)
        if not found:
            raise Corrupt(
                f"This is no proof of an audit entry: it has to begin with '{FORMAT}', the entry "
                "and its index.",
                code="audit_proof_malformed",
            )
        path = tuple(base64.b64decode(line) for line in found["path"].split())
        return cls(base64.b64decode(found["extra"]), int(found["index"]), path, found["note"])

    def checked(self, verifier: Verifier) -> Checkpoint:
        """
        The signed checkpoint under which the entry was sealed.

        Raises:
            Corrupt: The key did not sign it, or the entry is not in the signed tree.
        """
        signed = Checkpoint.opened(self.note, verifier)
        leaf = hash_leaf(self.content)
        if not verify_inclusion(leaf, self.index, signed.size, self.path, signed.root):
            raise Corrupt(
                f"The signed tree of {signed.size} entries does not hold this entry as number "
                f"{self.index}: entry, number or proof was changed.",
                code="audit_proof_wrong",
            )
        return signed


def prove(lines: Iterable[bytes], wanted: str) -> Proof:
    """
    The proof of one entry under the newest checkpoint of an export.

    Args:
        lines: Of the export.
        wanted: A sequence number or the id of an entry.

    Raises:
        Missing: The export has no such entry.
        Corrupt: The export contradicts itself.
    """
    found: Line | None = None
    leaves, note = list[bytes](), ""
    rest = iter(lines)
    origin_of(next(rest, b""))
    for line in rest:
        if not is_entry(line):
            note = note_of(line) or note
        elif entry := parse_entry(line):
            leaves.append(entry.leaf)
            found = entry if _is(entry, wanted) else found
    if found is None:
        raise Missing(
            f"The export has no entry '{wanted}'; name one by its number or its id.",
            code="audit_entry_not_found",
        )
    return _proof_of(found, leaves, Checkpoint.parse(note), note)


def _proof_of(entry: Line, leaves: list[bytes], newest: Checkpoint, note: str) -> Proof:
    covered = leaves[: newest.size]
    if entry.hashed != entry.leaf or root_of(covered) != newest.root:
        raise Corrupt(
            "The export is not what its newest checkpoint says, so nothing can be proved from it. "
            "'perpetune audit verify' names the place.",
            code="audit_export_wrong",
        )
    path = inclusion_proof(entry.seq, covered)
    return Proof(entry.content, entry.seq, tuple(path), note)


def _is(entry: Line, wanted: str) -> bool:
    if wanted == str(entry.seq):
        return True
    return wanted.encode() in entry.content and json.loads(entry.content)["id"] == wanted


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()
