"""What a webhook says, how it is signed, and when it is tried again. Pure.

Source of the form: Standard Webhooks 1.0, as OpenAI's `client.webhooks.unwrap` checks it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

# Our events that OpenAI's receivers know, by their names for them.
TYPES: Mapping[str, str] = {
    "fine_tuning.job.succeeded": "job.succeeded.v1",
    "fine_tuning.job.failed": "job.failed.v1",
    "fine_tuning.job.cancelled": "job.cancelled.v1",
    "batch.completed": "batch.completed.v1",
    "batch.failed": "batch.failed.v1",
    "batch.cancelled": "batch.cancelled.v1",
    "batch.expired": "batch.expired.v1",
}
NAMES = {ours: theirs for theirs, ours in TYPES.items()}

_SECRET_BYTES = 32
_HINT_CHARACTERS = 4
_LONGEST_PAUSE_SECONDS = 600.0


def secret_of(key: str, endpoint_id: str, version: int) -> str:
    """
    The signing secret of an endpoint, in the form its receiver is given.

    It is derived, so that no copy of the database holds it.

    Args:
        key: Of this installation.
        endpoint_id: Whose secret it is.
        version: One more at every rotation.
    """
    derived = HKDF(
        algorithm=SHA256(),
        length=_SECRET_BYTES,
        salt=None,
        info=f"perpetune webhook {endpoint_id} {version}".encode(),
    ).derive(key.encode())
    return "whsec_" + base64.b64encode(derived).decode()


def hint_of(secret: str) -> str:
    """What tells secrets apart and gives none away."""
    return f"whsec_...{secret[-_HINT_CHARACTERS:]}"


def headers_of(event_id: str, body: bytes, secrets: Sequence[str], now: float) -> dict[str, str]:
    """
    Headers with a signature for each of *secrets*; a receiver needs to know one of them.

    Args:
        event_id: The same at every attempt, so that a receiver knows a repetition.
        body: As it is sent.
        secrets: The current one, and while it is still valid the one before.
        now: Unix time; the receiver refuses what is more than 300 s off.
    """
    stamp = str(int(now))
    signed = f"{event_id}.{stamp}.".encode() + body
    return {
        "content-type": "application/json",
        "user-agent": "perpetune-webhooks",
        "webhook-id": event_id,
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(f"v1,{_sign(secret, signed)}" for secret in secrets),
    }


def body_of(event_id: str, name: str, subject: str, created_at: int) -> bytes:
    """
    An event as OpenAI tells it.

    Args:
        event_id: Of our event.
        name: OpenAI's type, for example `fine_tuning.job.succeeded`.
        subject: Id of the job or batch.
        created_at: Unix time in seconds.
    """
    event = {
        "id": event_id,
        "object": "event",
        "created_at": created_at,
        "type": name,
        "data": {"id": subject},
    }
    return json.dumps(event, separators=(",", ":")).encode()


def told_id(envelope: Mapping[str, Any]) -> str:
    """Id under which receivers know an event of ours."""
    return f"evt_{str(envelope['id']).replace('-', '')}"


def pause_seconds(failures: int) -> float:
    """How long after the n-th failure in a row the next attempt is: 2, 4, 8 ... 600 s."""
    return min(_LONGEST_PAUSE_SECONDS, 2.0 ** min(failures, 10))


def _sign(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
