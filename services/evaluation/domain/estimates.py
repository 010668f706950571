"""Numbers with their uncertainty. The same sample always gives the same interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.statistics.intervals import (
    Interval,
    bootstrap_interval,
    bootstrap_perplexity,
    bootstrap_ratio,
    wilson_interval,
)

# Any constant will do.
SEED = 20_260


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval, low <= estimate <= high."""

    estimate: float
    low: float
    high: float


def share(hits: Sequence[bool]) -> Estimate:
    """Of *hits* that are true, by Wilson; at least one."""
    return _estimate(wilson_interval(sum(hits), len(hits)))


def mean(values: Sequence[float]) -> Estimate:
    """Of at least one value, by bootstrap."""
    return _estimate(bootstrap_interval(values, seed=SEED))


def perplexity(nll: Sequence[float], tokens: Sequence[int]) -> Estimate:
    """As in `bootstrap_perplexity`."""
    return _estimate(bootstrap_perplexity(nll, tokens, seed=SEED))


def share_of_fields(graded: Sequence[dict[str, bool] | None]) -> Estimate | None:
    """Of all fields of all answers that are right, by bootstrap; None when no answer has fields."""
    rows = [list(fields.values()) for fields in graded if fields]
    if not rows:
        return None
    # Fields of one answer go wrong together, so whole answers are drawn.
    return _estimate(
        bootstrap_ratio([sum(row) for row in rows], [len(row) for row in rows], seed=SEED)
    )


def _estimate(interval: Interval) -> Estimate:
    return Estimate(*interval)
