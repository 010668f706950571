"""One fault's trial: rounds at seeded instants inside one load, then the comparison of sets."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from shared.settings import CoreSettings
from tests.faults.invariants import owed, violations
from tests.faults.layout import RESTART_SECONDS
from tests.faults.load import Load, Rates
from tests.faults.report import Result
from tests.faults.stack import Stack
from tests.faults.watching import until

# What one fault may cost beyond its bound before the trial gives up waiting: a finding is then a
# late recovery with a figure, not a hang.
PATIENCE_SECONDS = 60.0
# The short selection is part of every test run, on machines that are busy with other things too:
# there a recovery may take so many times its bound. The full suite holds the bound itself.
_SHORT_PATIENCE = 3.0

# What the load may be told: normally all it sends is taken; where Postgres fails it is told so.
ACCEPTING = frozenset({200, 201})
REFUSING = ACCEPTING | {409, 429, 503}

# The longest command of the load holds for 0.2 s; here it is the third in its queue at worst.
WORK_SECONDS = 0.6

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


def bound_of_nothing(settings: CoreSettings) -> Bound:
    """Nothing is down: at worst a ringing is overlooked, and the work itself takes its time."""
    again = settings.ring_again_seconds
    return Bound(
        again + WORK_SECONDS,
        f"nothing is down; a ringing that is overlooked comes again in {again} s, and the work "
        f"behind other work takes {WORK_SECONDS} s",
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
        recoveries: Seconds from the end of each fault until all accepted before it was seen done.
        faults: From when to when each lasted, in Unix time.
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
    faults: list[tuple[float, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)
    _rounds: int = 0
    _began: float | None = None
    _is_over: bool = False

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
            if self.faults:
                self._expect_accepting(load)

    def rounds(self, full: int = 20) -> Iterator[int]:
        """
        Numbers of rounds: *full* of them in the full suite, one in the short selection.

        After something was not done in time there is none, as nothing else would be either.
        """
        for number in range(full if self.is_full else 1):
            if self._is_over:
                return
            self._rounds += 1
            yield number

    def in_turn(self, choices: Sequence[T], number: int) -> T:
        """One of *choices* a round: all have had their turn before one has a second."""
        order = random.Random(f"{self.seed} {self.fault} turns").sample(choices, len(choices))
        return order[number % len(order)]

    def pause(self, least: float = 0.2, most: float = 1.0) -> None:
        """Until a random instant, at which the fault of the round begins."""
        time.sleep(self.chance.uniform(least, most))
        self.begins()

    def begins(self) -> None:
        """The fault of the round begins now, unless it has."""
        self._began = self._began or time.time()

    def recovered(self, load: Load, bound: Bound, *, cut_off: int = 0) -> float:
        """
        The fault is over: wait until all that was accepted before is done.

        Args:
            load: Goes on meanwhile.
            bound: For how long it is waited, and a while longer.
            cut_off: How many attempts the fault may have cut off.

        Returns:
            Seconds until it was seen to be done.
        """
        over = time.time()
        self.faults.append((self._began or over, over))
        self._began = None
        load.cut_off += cut_off
        numbers = load.numbers_before(over)
        try:
            seen = load.await_done(numbers, seconds=bound.seconds + PATIENCE_SECONDS)
        except AssertionError as error:
            self.contradictions.append(f"I1: {error}")
            self._is_over = True
            seen = time.time()
        self.recoveries.append(seen - over)
        return self.recoveries[-1]

    def _expect_accepting(self, load: Load) -> None:
        """Whoever was hindered sends again: all senders but the rare ones, after the last fault."""
        _, over = self.faults[-1]
        for kind in ("probes", "api"):
            if getattr(load.rates, kind):
                sent = {"probes": "probe"}.get(kind, kind)
                try:
                    until(lambda: load.has_accepted(sent, over), what=f"{kind} are taken again")  # noqa: B023
                except AssertionError as error:
                    self.contradictions.append(str(error))

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

    def conclude(
        self,
        load: Load,
        bound: Bound,
        *,
        answers: Collection[int] = ACCEPTING,
        quiet_seconds: float = 60.0,
    ) -> None:
        """
        After the load: wait until all is quiet, compare sets, record the result, then judge it.

        Args:
            load: Has ended.
            bound: For each recovery, and for how long a command may wait outside of faults.
            answers: What the API may have answered to the load; 0 is nothing at all.
            quiet_seconds: For how long it is waited for quiet.
        """
        contradictions = list(self.contradictions)
        try:
            load.await_quiet(seconds=quiet_seconds)
        except AssertionError as error:
            contradictions.append(f"I1: {error}")
        effects = load.effects()
        contradictions += violations(self.stack, load)
        contradictions += self._strange_answers(load, answers)
        if len(load.accepted) < self._rounds:
            contradictions.append(f"only {len(load.accepted)} commands accepted")
        waits = [
            (seconds_outside(command.accepted_at, max(effects[number]), self.faults), command.kind)
            for number, command in load.accepted.items()
            if number in effects
        ]
        longest, kind = max(waits, default=(0.0, "nothing"))
        worst = max([*self.recoveries, longest], default=None)
        allowed = bound.seconds if self.is_full else _SHORT_PATIENCE * bound.seconds
        if worst is not None and worst > allowed:
            contradictions.append(
                f"I6: recovery took {worst:.1f} s, {allowed:.1f} s are allowed; outside of faults "
                f"a command of kind {kind} waited longest, {longest:.1f} s"
            )
        dead = load.dead()
        self.results.append(
            Result(
                fault=self.fault,
                title=self.title,
                rounds=max(1, self._rounds),
                accepted=len(load.accepted),
                unknown=len(load.unknown),
                dead=len(dead),
                lost=len(owed(self.stack, load) - set(effects) - dead),
                doubled=sum(len(effects.get(n, ())) > 1 for n in load.accepted),
                bound_seconds=bound.seconds,
                bound_reason=bound.reason,
                worst_seconds=worst,
                notes=tuple(self.notes),
                contradictions=tuple(contradictions),
            )
        )
        assert not contradictions, "\n".join(contradictions)

    def _strange_answers(self, load: Load, fit: Collection[int]) -> list[str]:
        strange = {status: n for status, n in load.answers.items() if status not in fit}
        found = [f"the API answered {strange} (0 is nothing)"] if strange else []
        if 503 not in fit and (hindered := len(load.refused) + len(load.unknown)):
            found.append(f"{hindered} commands were refused or without an answer")
        return found


def seconds_outside(began: float, ended: float, faults: Sequence[tuple[float, float]]) -> float:
    """How long something took, without the time in which a fault lasted; all in Unix time."""
    inside = sum(max(0.0, min(ended, over) - max(began, start)) for start, over in faults)
    return max(0.0, ended - began - inside)
