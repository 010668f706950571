"""The breaker and the retry budget of every model this process asks, in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from services.inference.domain.breaker import (
    Breaker,
    Closed,
    Ending,
    Go,
    Refused,
    Rest,
    RetryBudget,
    State,
)
from shared.logging import get_logger

_log = get_logger(__name__)


@dataclass(slots=True)
class Standing:
    """
    What is known of one model.

    Attributes:
        calls: Calls begun, repetitions included.
        repetitions: Calls that repeated one that had failed.
    """

    tokens: float
    state: State = field(default_factory=Closed)
    calls: int = 0
    repetitions: int = 0

    @property
    def is_open(self) -> bool:
        """Whether it is left alone, but for trials."""
        return not isinstance(self.state, Closed)


class Call:
    """One call that goes through. Its first ending counts; later ones change nothing."""

    def __init__(self, settle: Callable[[Ending, float | None], None]) -> None:
        self._settle = settle
        self._is_over = False

    def end(self, ending: Ending, *, retry_after: float | None = None) -> None:
        """Say what became of it; *retry_after* is what the model asked for, in seconds."""
        if not self._is_over:
            self._is_over = True
            self._settle(ending, retry_after)


class Breakers:
    """One breaker and one budget per model. Lives in one event loop, so it needs no lock."""

    def __init__(
        self, breaker: Breaker, budget: RetryBudget, *, clock: Callable[[], float]
    ) -> None:
        """
        Args:
            breaker: When a model is left alone.
            budget: How much may be repeated.
            clock: Monotonic seconds.
        """
        self._breaker = breaker
        self._budget = budget
        self._clock = clock
        self._standings: dict[str, Standing] = {}

    def admit(self, model: str) -> Go | Rest | Refused:
        """Whether a request may ask *model* now; all its choices go in with one `Go`."""
        standing = self._standing(model)
        standing.state, verdict = self._breaker.admit(standing.state, self._clock())
        return verdict

    def begin(self, model: str, go: Go, *, is_repetition: bool) -> Call:
        """Count a call that was let through."""
        standing = self._standing(model)
        standing.calls += 1
        if is_repetition:
            standing.repetitions += 1
        else:
            standing.tokens = self._budget.earn(standing.tokens)
        return Call(lambda ending, rest: self._settle(model, go, ending, rest))

    def may_repeat(self, model: str) -> bool:
        """Take a repetition from the budget, unless it is used up or the model is left alone."""
        standing = self._standing(model)
        tokens = None if standing.is_open else self._budget.spend(standing.tokens)
        if tokens is None:
            return False
        standing.tokens = tokens
        return True

    def standings(self) -> Iterator[tuple[str, Standing]]:
        """Every model that was asked, by name."""
        yield from sorted(self._standings.items())

    def _standing(self, model: str) -> Standing:
        return self._standings.setdefault(model, Standing(float(self._budget.floor)))

    def _settle(self, model: str, go: Go, ending: Ending, retry_after: float | None) -> None:
        standing, now = self._standing(model), self._clock()
        was_open = standing.is_open
        standing.state = self._breaker.settle(
            standing.state, go, ending, now=now, retry_after=retry_after
        )
        if standing.is_open != was_open:
            _log.warning("breaker_changed", model=model, is_open=standing.is_open)
