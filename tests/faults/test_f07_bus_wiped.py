"""F-07: FLUSHALL at random instants, and many in a row."""

from __future__ import annotations

import random
import time

import pytest

from tests.faults.load import Load
from tests.faults.stack import Stack
from tests.faults.trial import PATIENCE_SECONDS, Bound

FAULT = "F-07"

# Commands enough that there are some left at every wipe.
ONCE, TWELVE_TIMES = (1, 120), (12, 240)


@pytest.mark.parametrize(
    ("wipes", "backlog"), [ONCE, TWELVE_TIMES], ids=["once", "twelve times in a row"]
)
def test_wiped_bus_costs_no_message_and_no_attempt(stack, trial, wipes, backlog):
    """Bus emptied with a backlog

    Guarantee: what was rung is due again at once, not after `ring_again_seconds`; and however often
    the bus is emptied, a healthy message never becomes a dead letter.
    """
    half = stack.settings.ring_again_seconds / 2
    hits = 0
    with trial.load() as load:
        # How long it takes varies; the short selection allows for that in its patience.
        tries = range(3 if trial.is_full else 1)
        usual = max(seconds_for_backlog(load, trial.chance, backlog) for _ in tries)
        bound = Bound(
            half + usual,
            f"half a ringing again, {half} s, beside what the backlog takes anyway, {usual:.1f} s",
        )
        for _ in trial.rounds(full=10):
            load.burst(trial.chance, backlog)
            for _ in range(wipes):
                trial.pause(0, 0.3)
                hits += is_something_rung(stack)
                stack.bus.flushall()
            # What a worker has in hand is rung again as well, and its order asked for twice.
            trial.recovered(load, bound, cut_off=wipes * stack.layout.workers)
    done = wipes * len(trial.faults)
    trial.note(f"{hits} of {done} wipes while something was rung and not done")
    trial.expect(2 * hits > done, f"only {hits} of {done} wipes hit anything")
    trial.conclude(load, bound)


def seconds_for_backlog(load: Load, chance: random.Random, size: int) -> float:
    """How long a backlog takes when nothing happens to the bus."""
    load.burst(chance, size)
    sent = time.time()
    return load.await_done(load.numbers_before(sent), seconds=PATIENCE_SECONDS) - sent


def is_something_rung(stack: Stack) -> bool:
    return bool(stack.rows("SELECT FROM spine.deliveries WHERE rung_at IS NOT NULL LIMIT 1"))
