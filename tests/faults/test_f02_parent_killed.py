"""F-02: kill -9 of a worker's main process alone; its children are not told."""

from __future__ import annotations

import os
import signal
import time

from tests.faults.layout import RESTART_SECONDS
from tests.faults.load import Rates
from tests.faults.probes import PHASES
from tests.faults.trial import bound_of_worker
from tests.faults.watching import is_alive, until

FAULT = "F-02"
# A young child has not been told what to do; it dies as soon as it can be tied to its parent.
YOUNG = "young"
WORKING = "working"
FOR_EVER_SECONDS = 30.0


def test_children_of_a_killed_parent_die_with_it(stack, trial):
    """A worker's main process alone killed, while its child works or still starts.

    Guarantee: no child outlives its parent and works beside the next one; what it did is done
    again, once.
    """
    bound = bound_of_worker(stack.settings)
    # One that works ends before its work is rung again, a young one before the next worker works.
    allowed = {WORKING: stack.settings.ring_again_seconds, YOUNG: RESTART_SECONDS}
    slowest: dict[str, float] = {}
    with trial.load(Rates(probes=3, phased=1, jobs=0.3, api=0.5), hold_seconds=0.1) as load:
        for number in trial.rounds():
            trial.pause()
            instant = trial.in_turn([*PHASES, YOUNG], number)
            victim = await_victim(stack, trial, instant)
            age = YOUNG if instant == YOUNG else WORKING
            slowest[age] = max(slowest.get(age, 0.0), orphan_seconds(stack, victim))
            trial.recovered(load, bound, cut_off=1)
    for age, seconds in slowest.items():
        trial.expect(seconds < FOR_EVER_SECONDS, f"a {age} orphan had to be killed")
        trial.note(f"the last {age} orphan ended {seconds:.2f} s after its parent")
        trial.expect_timely(seconds <= allowed[age], f"a {age} orphan lived for {seconds:.1f} s")
    trial.conclude(load, bound)


def await_victim(stack, trial, instant: str) -> str:
    """A worker whose child is in the middle of a phase, or has just been started."""
    if instant != YOUNG:
        return stack.await_stage(stack.names("worker"), instant)
    worker = trial.chance.choice(stack.names("worker"))
    old = stack.family(worker)
    stack.kill(worker)
    until(lambda: not any(map(is_alive, old)), what=f"{worker} is dead")
    # The first child of a spawning parent counts semaphores, the others work.
    until(lambda: len(stack.family(worker)) > 2, what=f"{worker} has a child", pause=0.002)
    return worker


def orphan_seconds(stack, worker: str) -> float:
    """How long the last child outlives its parent, whom we kill."""
    _, *orphans = stack.family(worker)
    stack.signal(worker, signal.SIGKILL)
    killed = time.monotonic()
    try:
        until(
            lambda: not any(map(is_alive, orphans)),
            what="all orphans end",
            seconds=FOR_EVER_SECONDS,
            pause=0.005,
        )
    except AssertionError:
        for orphan in filter(is_alive, orphans):
            os.kill(orphan, signal.SIGKILL)
    return time.monotonic() - killed
