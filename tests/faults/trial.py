"""One fault's trial: rounds at seeded instants inside one load, then the comparison of sets."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from shared.settings import CoreSettings
from tests.faults.invariants import violations
from tests.faults.layout import RESTART_SECONDS
from tests.faults.load import Load, Rates
from tests.faults.report import Result
from tests.faults.stack import Stack

# What one fault may cost beyond its bound before the trial gives up waiting: a finding is then a
# late recovery with a figure, not a hang.
PATIENCE_SECONDS = 60.0
# The short selection is part of every test run, on machines that are busy with other things too:
# there a recovery may take so many times its bound. The full suite holds the bound itself.
_SHORT_PATIENCE = 3.0

T = TypeVar("T")


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


def bound_of_worker(settings: CoreSettings) -> Bound:
    """A worker has to come back, and what it held or was never told is rung again."""
    again = settings.ring_again_seconds
    return Bound(
        RESTART_SECONDS + 2 * again,
        f"a worker's restart {RESTART_SECONDS} s and two ringings again, {again} s each",
    )


def bound_of_ringing(settings: CoreSettings, *, more_seconds: float = 0.0, why: str = "") -> Bound:
    """What was rung in vain is rung again, and what somebody gave up under a lease is claimed."""
    again, lease = settings.ring_again_seconds, settings.lease_seconds
    return Bound(
        more_seconds + 2 * again + lease,
        f"{why}what was rung in vain is rung again, twice {again} s, and a lease of {lease} s runs "
        "out",
    )


def bound_of_silence(settings: CoreSettings) -> Bound:
    """Postgres is waited for, connected to again, and meanwhile leases and ringings run out."""
    answer = settings.answer_seconds
    connect, lease = settings.database_connect_seconds, settings.lease_seconds
    again = settings.ring_again_seconds
    return Bound(
        answer + connect + max(2 * again, lease),
        f"an answer is waited for {answer} s and a connection {connect} s; a lease of {lease} s "
        f"runs out, while what was rung in vain is rung again, twice {again} s",
    )


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
        self.chance = random.Random(f"{self.seed} {self.fault} {self.title}")

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

    def in_turn(self, choices: Sequence[T], number: int) -> T:
        """One of *choices* a round: all have had their turn before one has a second."""
        order = random.Random(f"{self.seed} {self.fault} turns").sample(choices, len(choices))
        return order[number % len(order)]

    def pause(self, least: float = 0.2, most: float = 1.0) -> None:
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

    def expect_timely(self, is_so: bool, otherwise: str) -> None:  # noqa: FBT001 - as above
        """As `expect`, for what takes time: the short selection, on a busy machine, notes it."""
        if self.is_full:
            self.expect(is_so, otherwise)
        elif not is_so:
            self.note(f"late: {otherwise}")

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
        allowed = bound.seconds if self.is_full else _SHORT_PATIENCE * bound.seconds
        if worst is not None and worst > allowed:
            contradictions.append(f"I6: recovery took {worst:.1f} s, {allowed:.1f} s are allowed")
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
