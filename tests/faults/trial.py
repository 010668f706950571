"""One fault's trial: rounds at seeded instants inside one load, then the comparison of sets."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.faults.invariants import violations
from tests.faults.load import Load, Rates
from tests.faults.report import Result
from tests.faults.stack import Stack

# What one fault may cost beyond its bound before the trial gives up waiting: a finding is then a
# late recovery with a figure, not a hang.
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Bound:
    """
    Within what a fault's victims are done.

    Attributes:
        seconds: With the settings of the suite.
        reason: How it is computed, with the settings' values.
    """

    seconds: float
    reason: str


@dataclass
class Trial:
    """
    Attributes:
        fault: Row of the fault table, for example `F-01`.
        title: What is done to whom.
        seed: Of all instants and choices.
        is_full: All rounds; else one.
        chance: Seeded; for whatever the fault leaves open.
        recoveries: Seconds from the end of each fault until all accepted before it was done.
        contradictions: What did not hold besides the invariants.
    """

    fault: str
    title: str
    stack: Stack
    seed: int
    is_full: bool
    results: list[Result]
    chance: random.Random = field(init=False)
    recoveries: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(f"{self.seed} {self.fault}")

    @contextlib.contextmanager
    def load(
        self, rates: Rates | None = None, *, projects: int = 2, hold_seconds: float = 0.05
    ) -> Iterator[Load]:
        """A load of projects of this trial's own, for the length of a block."""
        prefix = self.fault.replace("-", "").lower()
        names = [f"{prefix}-{self.chance.randrange(16**6):06x}-{n}" for n in range(projects)]
        load = Load(self.stack, names, rates or Rates(), self.seed, hold_seconds)
        with load.running():
            yield load

    def rounds(self, full: int = 20) -> Iterator[int]:
        """Numbers of rounds: *full* of them in the full suite, one in the short selection."""
        yield from range(full if self.is_full else 1)

    def pause(self, least: float = 0.3, most: float = 1.5) -> None:
        """Until a random instant."""
        time.sleep(self.chance.uniform(least, most))

    def recovered(self, load: Load, bound: Bound, *, cut_off: int = 0) -> float:
        """
        The fault is over: wait until all that was accepted before is done.

        Args:
            load: Goes on meanwhile.
            bound: For how long it is waited, and a while longer.
            cut_off: How many attempts the fault may have cut off.

        Returns:
            Seconds it took, by the effects' own times.
        """
        over = time.time()
        load.cut_off += cut_off
        numbers = load.numbers_before(over)
        last = load.await_done(numbers, seconds=bound.seconds + PATIENCE_SECONDS)
        self.recoveries.append(max(0.0, last - over))
        return self.recoveries[-1]

    def note(self, text: str) -> None:
        """A figure or a limit for the report."""
        self.notes.append(text)

    def expect(self, is_so: bool, otherwise: str) -> None:  # noqa: FBT001 - reads like an assert
        """What this fault alone must hold; `conclude` judges it."""
        if not is_so:
            self.contradictions.append(otherwise)

    def skip(self, reason: str) -> None:
        """The fault cannot be injected here; listed, never passed."""
        self.results.append(Result.skipped(self.fault, self.title, reason))
        pytest.skip(reason)

    def conclude(self, load: Load, bound: Bound, *, quiet_seconds: float = 60.0) -> None:
        """
        After the load: wait until all is quiet, compare sets, record the result, then judge it.
        """
        contradictions = list(self.contradictions)
        try:
            load.await_quiet(seconds=quiet_seconds)
        except AssertionError as error:
            contradictions.append(f"I1: {error}")
        effects = load.effects()
        contradictions += violations(self.stack, load)
        worst = max(self.recoveries, default=None)
        if worst is not None and worst > bound.seconds:
            contradictions.append(
                f"I6: recovery took {worst:.1f} s, the bound is {bound.seconds:.1f} s"
            )
        dead = load.dead()
        self.results.append(
            Result(
                fault=self.fault,
                title=self.title,
                rounds=max(1, len(self.recoveries)),
                accepted=len(load.accepted),
                unknown=len(load.unknown),
                dead=len(dead),
                lost=len(set(load.accepted) - set(effects) - dead),
                doubled=sum(len(effects.get(n, ())) > 1 for n in load.accepted),
                bound_seconds=bound.seconds,
                bound_reason=bound.reason,
                worst_seconds=worst,
                notes=tuple(self.notes),
                contradictions=tuple(contradictions),
            )
        )
        assert not contradictions, "\n".join(contradictions)
