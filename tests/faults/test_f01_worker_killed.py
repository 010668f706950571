"""F-01: kill -9 of workers and of a lease holder, in every phase of what they do."""

from __future__ import annotations

from collections import Counter

from tests.faults.holder import BETWEEN_STEPS, IN_STEP, STEP_SECONDS
from tests.faults.layout import RESTART_SECONDS
from tests.faults.load import Rates
from tests.faults.probes import PHASES
from tests.faults.trial import Bound

FAULT = "F-01"
# Of twenty kills each phase of a worker gets two at least, each of a holder three.
INSTANTS = [*PHASES, IN_STEP, BETWEEN_STEPS, "both workers"]
# Twice the usual load: what a kill hits depends on it.
RATES = Rates(probes=20, phased=3, jobs=0.5, api=1)


def test_killed_worker_loses_and_doubles_nothing(stack, trial):
    """A worker with its children, both workers, or a lease holder killed in each of its phases.

    Guarantee: what a killed worker had taken is done by another, once, when it is rung again; a
    killed holder's job goes on under the next fence when its lease has ended.
    """
    again, lease = stack.settings.ring_again_seconds, stack.settings.lease_seconds
    bound = Bound(
        RESTART_SECONDS + max(2 * again, lease + STEP_SECONDS),
        f"a restart {RESTART_SECONDS} s, and the longer of two ringings again ({again} s each) "
        f"and a lease with the pause between two claims ({lease} + {STEP_SECONDS} s)",
    )
    kills: Counter[str] = Counter()
    with trial.load(RATES) as load:
        for number in trial.rounds():
            trial.pause()
            instant = trial.in_turn(INSTANTS, number)
            kill_at(stack, instant)
            kills[instant] += 1
            trial.recovered(load, bound, cut_off=2)
    trial.note("kills: " + ", ".join(f"{n} {instant}" for instant, n in sorted(kills.items())))
    trial.conclude(load, bound)


def kill_at(stack, instant: str) -> None:
    """Kill whom the *instant* names, in the middle of it."""
    if instant == "both workers":
        for worker in stack.names("worker"):
            stack.kill(worker)
        return
    role = "holder" if instant in {IN_STEP, BETWEEN_STEPS} else "worker"
    with stack.frozen_while(stack.names(role), instant) as victim:
        stack.kill(victim)
