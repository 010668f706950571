"""Inference ids are signed receipts: feedback is attributed from the id alone.

Layout before base64url, 61 bytes: UUIDv7 (16), workload (16), release (16), arm (1),
HMAC-SHA-256 over these and the project, cut to 12 bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from shared.errors import Invalid
from shared.ids import InferenceId, Project

Arm = Literal["live", "canary", "none"]
_ARMS: tuple[Arm, ...] = ("live", "canary", "none")
_PREFIX = "inf_"
_MAC_BYTES = 12
_BODY_BYTES = 49
_NIL = uuid.UUID(int=0)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an inference id says.

    Attributes:
        request: Time-ordered id of the request.
        project: The tenant; part of the signature, not of the text.
        workload_id: `wl_...`, or None for a pinned model.
        release_id: `rel_...` the request was assigned to, or None.
        arm: Which side of a canary it was assigned to.
    """

    request: uuid.UUID
    project: Project
    workload_id: str | None
    release_id: str | None
    arm: Arm

    def sign(self, key: bytes) -> InferenceId:
        """The id that callers see."""
        body = b"".join(
            (
                self.request.bytes,
                _bytes(self.workload_id),
                _bytes(self.release_id),
                bytes([_ARMS.index(self.arm)]),
            )
        )
        raw = body + _mac(key, self.project, body)
        return InferenceId(_PREFIX + base64.urlsafe_b64encode(raw).decode().rstrip("="))


def read_receipt(inference_id: str, project: Project, keys: Sequence[bytes]) -> Receipt:
    """
    The receipt behind an id, signed with one of *keys*.

    Raises:
        Invalid: The id was not made by this installation for this project.
    """
    encoded = inference_id.removeprefix(_PREFIX)
    try:
        raw = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except (binascii.Error, ValueError):
        raw = b""
    body, mac = raw[:_BODY_BYTES], raw[_BODY_BYTES:]
    matches = [hmac.compare_digest(mac, _mac(key, project, body)) for key in keys]
    if len(raw) != _BODY_BYTES + _MAC_BYTES or not any(matches):
        raise Invalid(
            "This is no inference id of this project; "
            "use the value of the x-inference-id header of an answer.",
            code="unknown_inference",
            param="inference_id",
        )
    return Receipt(
        request=uuid.UUID(bytes=body[:16]),
        project=project,
        workload_id=_name("wl_", body[16:32]),
        release_id=_name("rel_", body[32:48]),
        arm=_ARMS[body[48]],
    )


def request_time(inference_id: str) -> datetime:
    """
    When the request of an inference id began, UTC, in milliseconds.

    Nothing is verified: for ids that this installation has checked and stored.
    """
    encoded = inference_id.removeprefix(_PREFIX)
    raw = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    return datetime.fromtimestamp(int.from_bytes(raw[:6]) / 1000, UTC)


def _mac(key: bytes, project: str, body: bytes) -> bytes:
    return hmac.new(key, project.encode() + b"\0" + body, hashlib.sha256).digest()[:_MAC_BYTES]


def _bytes(name: str | None) -> bytes:
    return _NIL.bytes if name is None else uuid.UUID(name.partition("_")[2]).bytes


def _name(prefix: str, raw: bytes) -> str | None:
    value = uuid.UUID(bytes=raw)
    return None if value == _NIL else prefix + value.hex
