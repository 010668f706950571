"""F-08: `maxmemory` below what the bus holds: it refuses every write."""

from __future__ import annotations

import pytest

from tests.faults.trial import bound_of_nothing, bound_of_worker

FAULT = "F-08"


@pytest.mark.parametrize("is_killed", [False, True], ids=["workers going on", "a worker killed"])
def test_full_bus_delays_work_and_refuses_no_request(stack, trial, is_killed):
    """Bus full

    Guarantee: the API accepts as ever while the bus takes nothing; all is done when there is room
    again, also by a worker that had to start while there was none.
    """
    bound = bound_of_worker(stack.settings) if is_killed else bound_of_nothing(stack.settings)
    exits, kills, accepted = stack.exits("worker"), 0, 0
    with trial.load() as load:
        for _ in trial.rounds(full=10):
            trial.pause(0, 0.5)
            before = len(load.accepted)
            with stack.full_bus():
                if is_killed:
                    stack.kill(trial.chance.choice(stack.names("worker")))
                    kills += 1
                trial.pause(1, 3)
            accepted += len(load.accepted) - before
            trial.recovered(load, bound, cut_off=stack.layout.workers)
    trial.expect(accepted > 0, "nothing was accepted while the bus was full")
    gone = stack.exits("worker") - exits - kills
    trial.note(f"{accepted} commands accepted while full; {gone} main processes of workers gave up")
    trial.conclude(load, bound)
