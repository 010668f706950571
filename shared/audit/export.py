"""The file somebody else checks: entries in canonical form and the checkpoints over them.

JSON Lines: `{"format", "origin"}`, then `{"entry", "leaf", "seq"}` for each entry in order, and
`{"checkpoint"}` behind the entries it covers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from shared.audit.canonical import canonical, reread
from shared.audit.tree import hash_leaf
from shared.errors import Corrupt

FORMAT = "perpetune.audit/1"

_ENTRY = b'{"entry":'
_LEAF = b',"leaf":"'
_SEQ = b'","seq":'
_LEAF_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Line:
    """
    An entry of an export.

    Attributes:
        seq: Its number as stated.
        leaf: Its hash as stated.
        content: Its canonical form.
        hashed: The hash of that.
    """

    seq: int
    leaf: bytes
    content: bytes
    hashed: bytes


def header_line(origin: str) -> bytes:
    return canonical({"format": FORMAT, "origin": origin})


def entry_line(seq: int, leaf: str, entry: dict[str, Any]) -> bytes:
    """The order of keys puts the entry first, so that a reader can hash it as it stands."""
    return canonical({"entry": entry, "leaf": leaf, "seq": seq})


def checkpoint_line(note: str) -> bytes:
    return canonical({"checkpoint": note})


def origin_of(line: bytes) -> str:
    """
    The log that the first line names.

    Raises:
        Corrupt: The file is no export.
    """
    header = _object(line)
    if header.get("format") != FORMAT or not isinstance(header.get("origin"), str):
        raise Corrupt(
            f"This is no export of an audit log: its first line has to say '{FORMAT}'. "
            "Make one with 'perpetune audit export'.",
            code="audit_export_malformed",
        )
    return str(header["origin"])


def is_entry(line: bytes) -> bool:
    return line.startswith(_ENTRY) or "entry" in _object(line)


def note_of(line: bytes) -> str:
    """The signed note of a checkpoint line; empty when it is none."""
    return str(_object(line).get("checkpoint", ""))


def parse_entry(line: bytes) -> Line | None:
    """
    An entry line; None when it has not the form of one.

    As written by `entry_line` it is hashed without parsing. Formatted in another way, or
    changed, it is brought into canonical form first.
    """
    try:
        entry = _as_written(line.rstrip())
        return entry if entry and entry.hashed == entry.leaf else _formatted_anew(line)
    except (ValueError, TypeError, KeyError):
        return None


def _as_written(line: bytes) -> Line | None:
    end = line.rfind(_SEQ)
    start = end - _LEAF_CHARACTERS
    seq = line[end + len(_SEQ) : -1]
    if not line.startswith(_ENTRY) or line[start - len(_LEAF) : start] != _LEAF:
        return None
    if not seq.isdigit() or not line.endswith(b"}"):
        return None
    content = line[len(_ENTRY) : start - len(_LEAF)]
    leaf = bytes.fromhex(line[start:end].decode())
    return Line(int(seq), leaf, content, hash_leaf(content))


def _formatted_anew(line: bytes) -> Line:
    value = reread(line.decode())
    content = canonical(value["entry"])
    return Line(int(value["seq"]), bytes.fromhex(value["leaf"]), content, hash_leaf(content))


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
