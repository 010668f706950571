"""From rows of the feeds to what they say about a canary."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.releases.domain.canary import CanaryOutcome
from shared.assignment import Arm

# Doors learn of a new share within a second; what they assigned meanwhile may be of either share.
SETTLING = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Ramp:
    """A share, and since when it holds."""

    at: datetime
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredRequest:
    """
    A row of the feed of records, of a request that was assigned to an arm.

    Attributes:
        release: Assigned; another model may have answered.
        is_error: Nobody answered.
        is_fallback: Another model answered, because the assigned one could not.
        is_cached: The answer came from the cache.
        is_batch: It was a line of a batch, which nobody waits for.
        unit: Hash of what is never torn apart, for example a user.
    """

    release: str
    is_error: bool
    is_fallback: bool
    is_cached: bool
    is_batch: bool
    latency_ms: float
    output_tokens: int
    unit: str
    at: datetime


def arm_of(release: str, canary_release: str) -> Arm:
    return Arm.CANARY if release == canary_release else Arm.CONTROL


def judge_label(release: str, canary_release: str, success: int) -> CanaryOutcome:
    """What a label says: success, and nothing else."""
    return CanaryOutcome(arm=arm_of(release, canary_release), success=float(success))


def judge_record(
    row: AnsweredRequest, canary_release: str, ramps: Sequence[Ramp], *, is_first_of_unit: bool
) -> CanaryOutcome:
    """
    What a record says: harms, and whether units went where they should.

    An answer from the cache or of a fallback says nothing about the assigned model's speed and
    length; that a fallback was needed is a failure of the assigned one. A batch stands back behind
    those who wait, so its latency says nothing; and it asks a line again until it is answered, so
    one trouble would be counted many times.
    """
    is_own = not (row.is_error or row.is_fallback or row.is_cached)
    has_failed = row.is_error or row.is_fallback
    return CanaryOutcome(
        arm=arm_of(row.release, canary_release),
        is_error=None if row.is_cached or row.is_batch else has_failed,
        latency_ms=row.latency_ms if is_own and not row.is_batch else None,
        tokens=row.output_tokens if is_own else None,
        planned_share=planned_share(ramps, row.at) if is_first_of_unit else None,
    )


def planned_share(ramps: Sequence[Ramp], at: datetime) -> float | None:
    """
    The share that held at *at*; None before the first, while a change spreads, and at 1.

    Args:
        ramps: In order of time.
        at: When the request was assigned.
    """
    past = [ramp for ramp in ramps if ramp.at <= at]
    if not past or at < past[-1].at + SETTLING or not 0 < past[-1].share < 1:
        return None
    return past[-1].share


def mark_first(requests: Sequence[AnsweredRequest], new: Collection[str]) -> list[bool]:
    """For each request, in order, whether it is the first of a unit in *new*."""
    waiting, is_first = set(new), []
    for request in requests:
        is_first.append(request.unit in waiting)
        waiting.discard(request.unit)
    return is_first
