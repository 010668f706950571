"""Positions in feeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """Position after the last row read: transaction id, then row number."""

    xid: int = 0
    seq: int = 0

    @classmethod
    def parse(cls, value: str) -> Self:
        """Read the form `str(cursor)` writes: `<xid>.<seq>`; empty is the beginning."""
        xid, _, seq = value.partition(".")
        return cls(int(xid or 0), int(seq or 0))

    def __str__(self) -> str:
        return f"{self.xid}.{self.seq}"
