"""F-07: FLUSHALL at random instants, and many in a row."""

from __future__ import annotations

import pytest

from tests.faults.trial import Bound

FAULT = "F-07"

BACKLOG = 40


@pytest.mark.parametrize("wipes", [1, 12], ids=["once", "twelve times in a row"])
def test_wiped_bus_costs_no_message_and_no_attempt(stack, trial, wipes):
    """Bus emptied with a backlog

    Guarantee: what was rung is due again at once, not after `ring_again_seconds`; and however often
    the bus is emptied, a healthy message never becomes a dead letter.
    """
    again = stack.settings.ring_again_seconds
    bound = Bound(again, f"sooner than one ringing again, {again} s")
    with trial.load() as load:
        for _ in trial.rounds(full=10):
            load.burst(trial.chance, BACKLOG)
            for _ in range(wipes):
                trial.pause(0, 0.4)
                stack.bus.flushall()
            # What a worker has in hand is rung again as well, and its order asked for twice.
            trial.recovered(load, bound, cut_off=wipes * stack.layout.workers)
    load.await_quiet(seconds=bound.seconds + 60)
    dead = load.dead()
    trial.expect(not dead, f"{len(dead)} healthy messages became dead letters")
    trial.conclude(load, bound)
