"""Pairs two arms' outcomes as they arrive, using each outcome once."""

from __future__ import annotations

from dataclasses import dataclass, replace

from shared.errors import Invalid


@dataclass(frozen=True, slots=True)
class Tally:
    """Count and sum of values seen so far."""

    count: int = 0
    total: float = 0.0

    def add(self, value: float) -> Tally:
        return Tally(self.count + 1, self.total + value)

    @property
    def mean(self) -> float | None:
        """In the unit of the values; None before the first."""
        return self.total / self.count if self.count else None


@dataclass(frozen=True, slots=True)
class Pairs:
    """
    Outcomes waiting for a partner from the other arm.

    A pair is complete when both arms hold at least one fresh outcome. Carrying the last control's
    mean over to the next pair instead would break the error bounds: the same lucky control would be
    counted again and again.
    """

    canary: Tally = Tally()
    control: Tally = Tally()

    def add(self, *, is_canary: bool, value: float) -> tuple[Pairs, float | None]:
        """
        One more outcome.

        Args:
            is_canary: Arm the request was assigned to.
            value: Outcome in [0, 1].

        Returns:
            The new state, and the pair's difference mean(canary) - mean(control), in [-1, 1], when
            this outcome completes a pair, else None.

        Raises:
            Invalid: *value* lies outside [0, 1]; the bounds would not hold.
        """
        if not 0 <= value <= 1:
            raise Invalid(f"An outcome lies in [0, 1]; got {value}.", code="outcome_out_of_range")
        waiting = (
            replace(self, canary=self.canary.add(value))
            if is_canary
            else replace(self, control=self.control.add(value))
        )
        canary, control = waiting.canary.mean, waiting.control.mean
        if canary is None or control is None:
            return waiting, None
        return Pairs(), canary - control
