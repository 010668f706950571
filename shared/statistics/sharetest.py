"""Sequential test that the observed share of an arm is the planned one (sample ratio mismatch)."""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import Invalid
from shared.statistics.eprocess import mean, multiply
from shared.statistics.odds import shifted

# Odds of the true share against the planned one, both ways; 0.5 and 2 are plain bugs, 0.8 and 1.25
# the subtle ones.
RATIOS = (0.25, 0.5, 0.8, 1.25, 2.0, 4.0)


@dataclass(frozen=True, slots=True)
class ShareTest:
    """
    Mixture of likelihood ratios against the plan.

    If each unit is assigned at random with its planned share, P(value ever >= 1/alpha) <= alpha,
    also while the share is ramped. Count units, not requests: one unit's requests all go the same
    way, and a busy unit would look like a mismatch.

    Source: likelihood-ratio e-process; the idea for experiments is from Lindon and Malek 2022.
    """

    products: tuple[float, ...] = (1.0,) * len(RATIOS)
    units: int = 0
    canary_units: int = 0
    expected_canary_units: float = 0.0

    def advance(self, *, is_canary: bool, planned_share: float) -> ShareTest:
        """
        One more unit, when it is seen for the first time.

        Args:
            is_canary: Arm the unit got.
            planned_share: Share of the canary at that moment, 0 < share < 1.

        Raises:
            Invalid: *planned_share* is out of range; nothing is random at 0 or 1.
        """
        if not 0 < planned_share < 1:
            raise Invalid(
                f"A planned share lies between 0 and 1; got {planned_share}.",
                code="share_out_of_range",
                param="planned_share",
            )
        return ShareTest(
            multiply(self.products, _factors(planned_share, is_canary=is_canary)),
            self.units + 1,
            self.canary_units + is_canary,
            self.expected_canary_units + planned_share,
        )

    @property
    def value(self) -> float:
        """The e-value, >= 0; compare it with 1/alpha."""
        return mean(self.products)


def _factors(share: float, *, is_canary: bool) -> tuple[float, ...]:
    others = (shifted(share, ratio) for ratio in RATIOS)
    return tuple(q / share if is_canary else (1 - q) / (1 - share) for q in others)
