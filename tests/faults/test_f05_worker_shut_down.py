"""F-05: warm and cold shutdown of a worker under load."""

from __future__ import annotations

import signal
import time

from tests.faults.load import Rates
from tests.faults.trial import bound_of_worker
from tests.faults.watching import is_alive, until

FAULT = "F-05"
# Closing connections and joining the pool, on two cores that do other work as well.
SLACK_SECONDS = 3.0
SHUTDOWNS = (signal.SIGTERM, signal.SIGQUIT)


def test_worker_that_is_shut_down_ends_in_its_grace_and_loses_nothing(stack, trial):
    """SIGTERM and SIGQUIT in turn to the main process of a worker in the middle of tasks.

    Guarantee: a worker that is told to end does so within its grace, with all its children, and
    what it had taken is done once, by it or by another.
    """
    settings = stack.settings
    bound = bound_of_worker(settings)
    grace = settings.worker_soft_shutdown_seconds + settings.task_hard_limit_seconds + SLACK_SECONDS
    longest: dict[signal.Signals, float] = {}
    with trial.load(Rates(probes=4, phased=1, jobs=0.3, api=0.5), hold_seconds=0.1) as load:
        for number in trial.rounds():
            trial.pause()
            how = trial.in_turn(SHUTDOWNS, number)
            worker = trial.chance.choice(stack.names("worker"))
            longest[how] = max(longest.get(how, 0.0), shut_down(stack, worker, how))
            trial.recovered(load, bound, cut_off=1)
    for how, seconds in longest.items():
        trial.note(f"{how.name}: the worker and its children ended within {seconds:.1f} s")
        trial.expect_timely(
            seconds <= grace, f"{how.name}: {seconds:.1f} s, the grace is {grace:.1f} s"
        )
    trial.conclude(load, bound)


def shut_down(stack, worker: str, how: signal.Signals) -> float:
    """Seconds from the signal until the worker and all its children have ended."""
    family = stack.family(worker)
    told = time.monotonic()
    stack.signal(worker, how)
    until(lambda: not any(map(is_alive, family)), what=f"{worker} has ended after {how.name}")
    return time.monotonic() - told
