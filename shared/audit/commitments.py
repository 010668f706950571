"""Salted commitments: an entry says that something was recorded, and what it was can be erased.

The salt makes a commitment to a guessable value, such as an e-mail address, unguessable once
salt and value are gone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Self

from shared.audit.canonical import canonical

_SALT_BYTES = 32


@dataclass(frozen=True, slots=True)
class Opening:
    """
    What opens a commitment.

    Attributes:
        salt: 32 random bytes.
        data: Any JSON value.
    """

    salt: bytes
    data: Any

    @classmethod
    def of(cls, data: Any) -> Self:  # noqa: ANN401 - any JSON value
        return cls(os.urandom(_SALT_BYTES), data)

    @property
    def commitment(self) -> str:
        """SHA-256 of the salt and the canonical data, hexadecimal."""
        return sha256(self.salt + canonical(self.data)).hexdigest()
