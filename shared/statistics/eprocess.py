"""Betting e-processes: evidence against a hypothesis that may be looked at after every outcome."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from shared.errors import Invalid

# Fractions of the wealth put on each outcome; a mixture needs no tuning to the unknown effect.
# Source: mixtures of fixed bets, Waudby-Smith and Ramdas 2024; the grids were found by simulation.
# The last bet is for gross differences (decision 0007).
PROMOTE_BETS = (0.1, 0.2, 0.35, 0.5, 0.7, 0.95)
ROLLBACK_BETS = (0.1, 0.2, 0.35, 0.55, 0.8, 0.95)

# A product is cut here so that it stays finite for ever. The cut process is never above the exact
# one, so the error bound holds; no decision asks for evidence anywhere near it.
CEILING = 1e300


@dataclass(frozen=True, slots=True)
class EProcess:
    """
    Mean over the bets b of the products of (1 + b * gain).

    If the expected gain given the past is never positive, the mean is a nonnegative supermartingale
    that starts at 1, so P(it ever reaches 1/alpha) <= alpha, however often one looks (Ville 1939).
    Plain products instead of sums of logarithms: multiplication is the same bits everywhere.
    """

    bets: tuple[float, ...]
    products: tuple[float, ...]

    @classmethod
    def start(cls, bets: tuple[float, ...]) -> EProcess:
        """No evidence yet. *bets* lie in (0, 1)."""
        return cls(bets, (1.0,) * len(bets))

    def advance(self, gain: float) -> EProcess:
        """
        The process after one more gain.

        Args:
            gain: What the hypothesis calls a loss on average, in the outcome's unit; so large that
                1 + bet * gain > 0 for every bet.

        Raises:
            Invalid: The gain would make the wealth zero or negative.
        """
        factors = tuple(1.0 + bet * gain for bet in self.bets)
        if not all(factor > 0 for factor in factors):
            raise Invalid(
                f"A gain of {gain} loses the whole wealth; outcomes lie in [0, 1].",
                code="outcome_out_of_range",
            )
        return replace(self, products=multiply(self.products, factors))

    @property
    def value(self) -> float:
        """The e-value, >= 0, finite; compare it with 1/alpha."""
        return mean(self.products)


def promote_gain(difference: float, margin: float) -> float:
    """Gain against "the canary is worse by *margin* or more"; *difference* is canary - control."""
    return difference + margin


def rollback_gain(difference: float, tolerance: float = 0.0) -> float:
    """Gain against "the canary is worse by at most *tolerance*"; *difference* as above."""
    return -difference - tolerance


def multiply(products: tuple[float, ...], factors: tuple[float, ...]) -> tuple[float, ...]:
    """Products one factor further, each cut at CEILING; shapes (bets,) and (bets,)."""
    return tuple(min(p * f, CEILING) for p, f in zip(products, factors, strict=True))


def mean(products: tuple[float, ...]) -> float:
    """Mean, rounded once: `sum` rounds differently from Python 3.12 on."""
    return math.fsum(products) / len(products)
