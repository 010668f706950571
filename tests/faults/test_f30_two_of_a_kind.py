"""F-30: two ringers, two schedulers and two sealers at once, one of them failing in turn."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable
from math import floor

from shared.context import Context
from shared.ids import Project
from shared.spine import schedules
from tests.faults.layout import Layout
from tests.faults.probes import Beat
from tests.faults.stack import Stack
from tests.faults.trial import Bound, Trial
from tests.faults.watching import until

FAULT = "F-30"
LAYOUT = Layout(deliveries=2)
PERIOD_SECONDS = 0.5
SCHEDULES = 4


def test_two_deliveries_at_once_double_nothing(stack, trial):
    """Two delivery processes, one of them frozen, killed or restarted in turn.

    Guarantee: any number of ringers, schedulers and sealers act as one, whoever of them fails.
    """
    again = stack.settings.ring_again_seconds
    bound = Bound(
        2 * again,
        f"the other one goes on; what the victim had marked is rung again, twice {again} s",
    )
    with trial.load() as load:
        first = start_schedules(stack, load.projects[0])
        for number in trial.rounds():
            trial.pause()
            victim = stack.names("delivery")[number % 2]
            trial.chance.choice(FAULTS)(stack, trial, victim)
            over = time.time()
            trial.recovered(load, bound)
            until(lambda since=over: beats_go_on(stack, since), what="all schedules fire")
        stop_schedules(stack, load.projects[0])
    load.await_quiet(seconds=60)
    fired = periods_fired(stack, first)
    doubled = [period for period, count in fired.items() if count > 1]
    trial.note(f"{SCHEDULES} schedules fired {fired.total()} times, {len(doubled)} times too often")
    trial.expect(not doubled, f"fired twice in one period: {doubled[:3]}")
    trial.conclude(load, bound)


def frozen(stack: Stack, trial: Trial, victim: str) -> None:
    with stack.frozen(victim):
        trial.pause(1.0, 3.0)


def killed(stack: Stack, _trial: Trial, victim: str) -> None:
    stack.kill(victim)


def told_to_stop(stack: Stack, _trial: Trial, victim: str) -> None:
    stack.signal(victim, signal.SIGTERM)


FAULTS: tuple[Callable[[Stack, Trial, str], None], ...] = (frozen, killed, told_to_stop)


def start_schedules(stack: Stack, project: str) -> dict[str, float]:
    """Start some; for each name the Unix time of the first period."""
    with stack.app.open(Context.root(Project(project), "faults")) as uow:
        for number in range(SCHEDULES):
            schedules.every(uow, PERIOD_SECONDS, Beat(name=f"beat-{number}"))
    rows = stack.rows(
        "SELECT subject, extract(epoch FROM due_at)::float8 FROM spine.schedules "
        "WHERE project = %s AND type = %s",
        project,
        Beat.type,
    )
    return dict(rows)


def stop_schedules(stack: Stack, project: str) -> None:
    with stack.app.open(Context.root(Project(project), "faults")) as uow:
        for number in range(SCHEDULES):
            schedules.stop(uow, Beat(name=f"beat-{number}"))


def beats(stack: Stack) -> list[tuple[str, float]]:
    """Of each beat the name of its schedule, and the Unix time at which it was fired."""
    rows = stack.rows("SELECT number FROM faults.effects WHERE kind = 'beat'")
    return [(name, float(at)) for name, at in (row[0].split() for row in rows)]


def beats_go_on(stack: Stack, since: float) -> bool:
    return len({name for name, at in beats(stack) if at > since}) == SCHEDULES


def periods_fired(stack: Stack, first: dict[str, float]) -> Counter[tuple[str, int]]:
    """How often each schedule fired in each of its periods."""
    return Counter(
        (name, floor((at - first[name]) / PERIOD_SECONDS))
        for name, at in beats(stack)
        if name in first
    )
