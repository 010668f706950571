"""Signed notes (c2sp.org/signed-note): text, a blank line, and Ed25519 signatures of the text."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.errors import Corrupt, Invalid

_ED25519 = b"\x01"
_KEY_ID_BYTES = 4
_DASH = "\N{EM DASH} "


@dataclass(frozen=True)
class Verifier:
    """
    A public key and the name it signs under.

    Attributes:
        name: Without blanks and plus signs.
        public_key: 32 bytes.
    """

    name: str
    public_key: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Read `<name>+<key id, hexadecimal>+<base64 of type and key>`, the form `str` writes.

        Raises:
            Invalid: It is no such key.
        """
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        try:
            decoded = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            decoded = b""
        verifier = cls(name, decoded[1:])
        if (decoded[:1], len(decoded), key_id) != (_ED25519, 33, verifier.key_id.hex()):
            raise Invalid(
                f"'{text.strip()[:80]}' is no public key of an audit log; it looks like "
                "'<name>+<8 hexadecimal digits>+<44 characters>'.",
                code="invalid_audit_key",
            )
        return verifier

    def __str__(self) -> str:
        encoded = base64.b64encode(_ED25519 + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    @cached_property
    def key_id(self) -> bytes:
        hashed = sha256(self.name.encode() + b"\n" + _ED25519 + self.public_key)
        return hashed.digest()[:_KEY_ID_BYTES]

    def opened(self, note: str) -> str:
        """
        The text of *note*, whose signature of this key holds.

        Raises:
            Corrupt: This key did not sign it.
        """
        text, separator, signatures = note.rpartition("\n\n")
        text += "\n"
        for line in signatures.splitlines() if separator else ():
            name, _, encoded = line.removeprefix(_DASH).partition(" ")
            signature = _decoded(encoded)
            if name == self.name and signature[:_KEY_ID_BYTES] == self.key_id:
                self._check(text, signature[_KEY_ID_BYTES:])
                return text
        raise Corrupt(
            f"There is no signature of {self.name}+{self.key_id.hex()} under "
            f"'{note[:60].partition(chr(10))[0]}': another key signed it, or none.",
            code="audit_note_unsigned",
        )

    def _check(self, text: str, signature: bytes) -> None:
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text.encode())
        except InvalidSignature as error:
            raise Corrupt(
                f"The signature of {self.name}+{self.key_id.hex()} does not belong to this text: "
                "one of the two was changed.",
                code="audit_note_forged",
            ) from error


class Signer:
    """Signs notes with a private key."""

    def __init__(self, name: str, seed: bytes) -> None:
        """
        Args:
            name: Without blanks and plus signs; appears in every signature.
            seed: The private key of RFC 8032, 32 bytes.
        """
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = Verifier(name, self._key.public_key().public_bytes_raw())

    def signed(self, text: str) -> str:
        """The note of *text*, which ends in a line feed."""
        signature = self.verifier.key_id + self._key.sign(text.encode())
        encoded = base64.b64encode(signature).decode()
        return f"{text}\n{_DASH}{self.verifier.name} {encoded}\n"


def _decoded(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return b""
