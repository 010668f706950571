"""Checkpoints (c2sp.org/tlog-checkpoint): which log, how many entries, and the root over them."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Self

from shared.audit.note import Verifier
from shared.errors import Corrupt

_TEXT = re.compile(r"([^\n]+)\n(0|[1-9][0-9]*)\n([A-Za-z0-9+/]{43}=)\n")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """
    What a log was when it was signed.

    Attributes:
        origin: `<name of the installation>/<project>`.
        size: Number of entries.
        root: Of the tree over all of them, 32 bytes.
    """

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Read the text of a note, signed or not.

        Raises:
            Corrupt: It is no checkpoint.
        """
        found = _TEXT.match(text)
        if not found:
            raise Corrupt(
                f"'{text[:60].partition(chr(10))[0]}' does not begin a checkpoint.",
                code="audit_checkpoint_malformed",
            )
        return cls(found[1], int(found[2]), base64.b64decode(found[3]))

    @classmethod
    def opened(cls, note: str, verifier: Verifier) -> Self:
        """
        The checkpoint of a signed note.

        Raises:
            Corrupt: The key of *verifier* did not sign it, or it is no checkpoint.
        """
        return cls.parse(verifier.opened(note))
