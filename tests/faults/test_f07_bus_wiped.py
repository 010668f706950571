"""F-07: FLUSHALL at random instants, and many in a row."""

from __future__ import annotations

import random
import time

import pytest

from tests.faults.load import Load
from tests.faults.trial import PATIENCE_SECONDS, Bound

FAULT = "F-07"

BACKLOG = 40


@pytest.mark.parametrize("wipes", [1, 12], ids=["once", "twelve times in a row"])
def test_wiped_bus_costs_no_message_and_no_attempt(stack, trial, wipes):
    """Bus emptied with a backlog

    Guarantee: what was rung is due again at once, not after `ring_again_seconds`; and however often
    the bus is emptied, a healthy message never becomes a dead letter.
    """
    again = stack.settings.ring_again_seconds
    with trial.load() as load:
        usual = max(seconds_for_backlog(load, trial.chance) for _ in range(3))
        bound = Bound(
            again + usual,
            f"sooner than one ringing again, {again} s, beside what the backlog takes anyway, "
            f"{usual:.1f} s",
        )
        for _ in trial.rounds(full=10):
            load.burst(trial.chance, BACKLOG)
            for _ in range(wipes):
                trial.pause(0, 0.4)
                stack.bus.flushall()
            # What a worker has in hand is rung again as well, and its order asked for twice.
            trial.recovered(load, bound, cut_off=wipes * stack.layout.workers)
    load.await_quiet(seconds=bound.seconds + PATIENCE_SECONDS)
    dead = load.dead()
    trial.expect(not dead, f"{len(dead)} healthy messages became dead letters")
    trial.conclude(load, bound)


def seconds_for_backlog(load: Load, chance: random.Random) -> float:
    """How long a backlog takes when nothing happens to the bus."""
    load.burst(chance, BACKLOG)
    sent = time.time()
    return max(0.0, load.await_done(load.numbers_before(sent), seconds=PATIENCE_SECONDS) - sent)
