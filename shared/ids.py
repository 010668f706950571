"""Identifiers that say what they name.

OpenAI's nouns keep OpenAI's forms; ours are a prefix and a UUIDv7, so that ids sort by time.
"""

from __future__ import annotations

import os
import secrets
import time
import uuid
from datetime import UTC, datetime
from typing import NewType

Project = NewType("Project", str)
FileId = NewType("FileId", str)
DatasetId = NewType("DatasetId", str)
JobId = NewType("JobId", str)
ModelId = NewType("ModelId", str)
EvaluationId = NewType("EvaluationId", str)
ReleaseId = NewType("ReleaseId", str)
WorkloadId = NewType("WorkloadId", str)
CycleId = NewType("CycleId", str)
InferenceId = NewType("InferenceId", str)
MonitorId = NewType("MonitorId", str)
AlertId = NewType("AlertId", str)
DeliveryId = NewType("DeliveryId", str)
Digest = NewType("Digest", str)

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def uuid7(*, milliseconds: int | None = None) -> uuid.UUID:
    """
    A time-ordered UUID.

    Args:
        milliseconds: Unix time in ms; the current time when None.

    Source: RFC 9562 section 5.7.
    """
    stamp = int(time.time() * 1000) if milliseconds is None else milliseconds
    value = (stamp & ((1 << 48) - 1)) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)


def instant_of(stamped: uuid.UUID) -> datetime:
    """The instant inside a UUIDv7, UTC, to the millisecond; by the clock of whoever made it."""
    return datetime.fromtimestamp((stamped.int >> 80) / 1000, UTC)


def new_id(prefix: str) -> str:
    """A new id such as `rel_0199...` (separator `_`, or as in the prefix: `file-`, `ftjob-`)."""
    separator = "" if prefix.endswith(("-", "_")) else "_"
    return f"{prefix}{separator}{uuid7().hex}"


def base62(number: int, width: int = 0) -> str:
    """*number* >= 0 in digits 0-9A-Za-z, padded with zeros to *width*."""
    digits = ""
    while number:
        number, rest = divmod(number, 62)
        digits = _BASE62[rest] + digits
    return digits.rjust(width, "0")


def random_base62(width: int) -> str:
    """*width* random characters from the operating system's generator (5.95 bits each)."""
    return "".join(secrets.choice(_BASE62) for _ in range(width))
