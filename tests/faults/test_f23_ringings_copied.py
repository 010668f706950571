"""F-23: every ringing reaches the workers three times: at once, a moment later, and much later."""

from __future__ import annotations

import random
import time

from tests.faults.courier import BY_COURIER, Courier, Manner
from tests.faults.load import Rates
from tests.faults.trial import bound_of_nothing

FAULT = "F-23"
LAYOUT = BY_COURIER
LATEST_SECONDS = 3.0
# Three ringings a command: a third of the usual load is as many. Nobody rings for a job.
RATES = Rates(probes=3.0, phased=0.7, jobs=0, api=1.0)


def thrice(chance: random.Random) -> tuple[float, ...]:
    """While nobody has begun, while somebody is at it, and when it is done or rung again."""
    return (0.0, chance.uniform(0.0, 0.1), chance.uniform(0.5, LATEST_SECONDS))


def test_copied_ringings_have_one_effect_each(stack, trial):
    """Every ringing handed to the workers three times.

    Guarantee: one effect of one command, however often it is rung, at whatever moment.
    """
    bound = bound_of_nothing(stack.settings)
    courier = Courier(stack, trial.chance)
    with courier.on_duty():
        with courier.carrying(Manner(thrice)):
            with trial.load(RATES) as load:
                for _ in trial.rounds():
                    trial.pause(1.5, 3.0)
                    trial.recovered(load, bound)
            time.sleep(LATEST_SECONDS)  # until the last copies are handed over as well
        fetched, handed = courier.fetched.total(), courier.handed.total()
        trial.note(f"{fetched} ringings were handed over {handed} times")
        trial.expect(handed > 2 * fetched, "hardly anything was copied")
        trial.conclude(load, bound)
