"""Sticky assignment of units to the arms of an experiment; pure, so the hot path can call it."""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b

BUCKETS = 10_000


class Arm(StrEnum):
    CANARY = "canary"
    CONTROL = "control"


def bucket(salt: str, unit: str) -> int:
    """
    The bucket of a unit, 0..9999, uniform over units and independent between salts.

    Args:
        salt: Of one experiment and no other, else the same units are always the first to be tried.
        unit: What must not be torn apart, for example a user.
    """
    digest = blake2b(f"{salt}\0{unit}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % BUCKETS


def arm(bucket: int, share: float) -> Arm:
    """
    The arm of a bucket while the canary gets *share* of the units, 0 <= share <= 1.

    Monotone: raising the share moves units into the canary and never one out of it.
    """
    return Arm.CANARY if bucket < round(share * BUCKETS) else Arm.CONTROL
