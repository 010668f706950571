"""F-06: kill -9 of the bus with a backlog and work in hand, with its log and without."""

from __future__ import annotations

import pytest

from tests.faults.trial import bound_of_worker

FAULT = "F-06"

# More than the workers do while it is sent.
BACKLOG = 120


@pytest.mark.parametrize("is_log_lost", [False, True], ids=["log kept", "no log"])
def test_killed_bus_loses_nothing_and_workers_come_back(stack, trial, is_log_lost):
    """Bus killed with a backlog and work in hand, down for a while

    Guarantee: with an append-only file or without, everything is done once, and workers are back
    by themselves; the supervisor brings back one whose main process gave up.
    """
    bound = bound_of_worker(stack.settings)
    exits = stack.exits("worker")
    rounds = 0
    with trial.load() as load:
        for _ in trial.rounds(full=10):
            rounds += 1
            load.burst(trial.chance, BACKLOG)
            trial.pause(0, 0.5)
            down = trial.chance.uniform(0.5, 3)
            stack.restart_bus(down_seconds=down, wipe=is_log_lost)
            trial.recovered(load, bound, cut_off=stack.layout.workers)
    gone = stack.exits("worker") - exits
    trial.note(f"{gone} main processes of workers exited in {rounds} restarts")
    trial.conclude(load, bound)
