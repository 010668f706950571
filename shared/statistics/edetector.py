"""Shiryaev-Roberts mixture e-detector: finds a rise of a mean with a bound on false alarms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from shared.errors import Invalid
from shared.statistics.eprocess import CEILING, mean
from shared.statistics.odds import shifted

# Alternatives by their odds against the ceiling: from "hardly worse" to "mostly failing".
RATIOS = (1.25, 1.6, 2.25, 4.0, 9.0)


class Onset(NamedTuple):
    """Where a change most probably began, in observations before and including the last one."""

    observations_ago: int
    is_censored: bool  # the change began there or earlier, before the kept observations


@dataclass(frozen=True, slots=True)
class EDetector:
    """
    State of one detector on values in [0, 1] where high is bad.

    With M_j = 0 at first, each value y makes M_j = (M_j + 1) * (1 + b_j * (y - ceiling)), and the
    statistic is the mean of the M_j. If the mean of y given the past never exceeds *ceiling*, the
    statistic minus the number of values is a supermartingale, so the first time it reaches A comes
    after A values or more on average. For values 0 and 1 the factor is the likelihood ratio of the
    j-th alternative; for values in between it is a bet, and the bound holds as well.

    Source: Shin, Ramdas and Rinaldo 2024, "E-detectors"; the grid is checked in tests/property.
    """

    ceiling: float
    sums: tuple[float, ...] = (0.0,) * len(RATIOS)

    def __post_init__(self) -> None:
        if not 0 < self.ceiling < 1:
            raise Invalid(
                f"A detector's ceiling lies between 0 and 1; got {self.ceiling}.",
                code="ceiling_out_of_range",
                param="ceiling",
            )

    def advance(self, value: float) -> EDetector:
        """
        The detector after one more value.

        Raises:
            Invalid: *value* lies outside [0, 1].
        """
        if not 0 <= value <= 1:
            raise Invalid(f"A value lies in [0, 1]; got {value}.", code="value_out_of_range")
        excess = value - self.ceiling
        sums = tuple(
            min((m + 1) * (1 + bet * excess), CEILING)
            for m, bet in zip(self.sums, bets(self.ceiling), strict=True)
        )
        return replace(self, sums=sums)

    def restart(self) -> EDetector:
        """The same detector before its first value, as after an alarm."""
        return EDetector(self.ceiling)

    @property
    def statistic(self) -> float:
        """Evidence for a change, >= 0, finite; alarm when it reaches A."""
        return mean(self.sums)


@lru_cache(maxsize=256)
def bets(ceiling: float) -> tuple[float, ...]:
    """
    Bets b_j that turn 1 + b_j * (y - ceiling) into the likelihood ratio of y in {0, 1}.

    All lie below 1/ceiling, so every factor is positive.
    """
    return tuple(
        (shifted(ceiling, ratio) - ceiling) / (ceiling * (1 - ceiling)) for ratio in RATIOS
    )


def onset(ceiling: float, values: Sequence[float]) -> Onset:
    """
    The start that maximises the product of one alternative's factors up to the last value.

    Args:
        ceiling: Of the detector.
        values: Latest values, oldest first, shape (n,), n >= 1.

    Returns:
        Observations since the change; censored when the best start is the oldest value kept.

    Cost: O(n * alternatives).
    Source: maximum likelihood estimate of the change point given an alarm, Hinkley 1970.
    """
    best, ago = -math.inf, 1
    for bet in bets(ceiling):
        total = 0.0
        for back, value in enumerate(reversed(values), start=1):
            total += math.log1p(bet * (value - ceiling))
            if total > best:
                best, ago = total, back
    return Onset(ago, is_censored=ago == len(values))
