"""When to try again: few attempts, full jitter, never past the deadline."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schedule:
    """
    Attributes:
        attempts: Most attempts on one model, the first included.
        first_seconds: Ceiling of the first pause; it doubles with every attempt.
        longest_seconds: Ceiling of any pause that the other side did not ask for.
    """

    attempts: int = 3
    first_seconds: float = 0.1
    longest_seconds: float = 2.0

    def pause(
        self, failures: int, *, retry_after: float | None, remaining: float, chance: float
    ) -> float | None:
        """
        Seconds to wait before the next attempt, or None to give up.

        Args:
            failures: Attempts that failed so far, at least 1.
            retry_after: Seconds the other side asked for; the pause is never shorter.
            remaining: Seconds until the deadline.
            chance: Uniform in [0, 1).

        Source: "full jitter" of AWS's Exponential Backoff And Jitter (2015).
        """
        if failures >= self.attempts:
            return None
        ceiling = min(self.longest_seconds, self.first_seconds * 2.0 ** (failures - 1))
        seconds = (retry_after or 0.0) + chance * ceiling
        return seconds if seconds < remaining else None
