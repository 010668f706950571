"""Shiryaev-Roberts mixture e-detector: finds a rise of a mean with a bound on false alarms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from shared.errors import Invalid
from shared.statistics.eprocess import CEILING, mean
from shared.statistics.odds import shifted

# Alternatives by their odds against the ceiling: from "hardly worse" to "mostly failing".
RATIOS = (1.25, 1.6, 2.25, 4.0, 9.0)


@dataclass(frozen=True, slots=True)
class Run:
    """
    The latest stretch of values that speaks most for one alternative.

    Attributes:
        product: Of the factors over the stretch.
        count: Values in it, with the last one.
        total: Their sum.
    """

    product: float = 1.0
    count: int = 0
    total: float = 0.0

    def advance(self, value: float, factor: float) -> Run:
        # A stretch that speaks against the alternative is better begun anew: this keeps the start
        # that maximises the product, over all starts and with nothing stored.
        if self.product <= 1:
            return Run(min(factor, CEILING), 1, value)
        return Run(min(self.product * factor, CEILING), self.count + 1, self.total + value)


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
    runs: tuple[Run, ...] = (Run(),) * len(RATIOS)

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
        factors = tuple(1 + bet * excess for bet in bets(self.ceiling))
        return replace(
            self,
            sums=tuple(min((m + 1) * f, CEILING) for m, f in zip(self.sums, factors, strict=True)),
            runs=tuple(r.advance(value, f) for r, f in zip(self.runs, factors, strict=True)),
        )

    def restart(self) -> EDetector:
        """The same detector before its first value, as after an alarm."""
        return EDetector(self.ceiling)

    @property
    def statistic(self) -> float:
        """Evidence for a change, >= 0, finite; alarm when it reaches A."""
        return mean(self.sums)

    @property
    def change(self) -> Run:
        """
        The values since the change most probably began; empty before the first value.

        Source: maximum likelihood estimate of a change point, Hinkley 1970; the running form is
        Page's CUSUM.
        """
        return max(self.runs, key=lambda run: run.product)


@lru_cache(maxsize=256)
def bets(ceiling: float) -> tuple[float, ...]:
    """
    Bets b_j that turn 1 + b_j * (y - ceiling) into the likelihood ratio of y in {0, 1}.

    All lie below 1/ceiling, so every factor is positive.
    """
    return tuple(
        (shifted(ceiling, ratio) - ceiling) / (ceiling * (1 - ceiling)) for ratio in RATIOS
    )
