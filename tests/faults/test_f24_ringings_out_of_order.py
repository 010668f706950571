"""F-24: ringings reach the workers shuffled, one in ten much later, and workers die meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
from collections import defaultdict
from collections.abc import Iterator

from shared.ids import uuid7
from tests.faults.courier import BY_COURIER, Courier, Manner
from tests.faults.layout import RESTART_SECONDS
from tests.faults.load import Load, Rates
from tests.faults.probes import Probe
from tests.faults.stack import Stack
from tests.faults.trial import Bound

FAULT = "F-24"
LAYOUT = BY_COURIER
SHUFFLED = 100
# Ringers wait while nobody takes, so at this load about a dozen are on the way at once.
FEW = 6
LANES = 4
LANE_COMMANDS_PER_SECOND = 3.0
# With the lanes as much as usual.
RATES = Rates(probes=5.0, phased=1.0, jobs=0.7, api=1.0)
# As long as a ringing again and half of it, as 30 s and more are in production.
HELD_SECONDS = 3.0


def held_now_and_then(chance: random.Random) -> tuple[float, ...]:
    return (HELD_SECONDS if chance.random() < 0.1 else 0.0,)


def test_order_of_ringings_decides_nothing(stack, trial):
    """Ringings of a second shuffled, one in ten held back, a worker killed meanwhile.

    Guarantee: the same commands take effect as in order, and those of a lane in their order.
    """
    again = stack.settings.ring_again_seconds
    bound = Bound(
        RESTART_SECONDS + 2 * again + HELD_SECONDS,
        f"a worker's restart {RESTART_SECONDS} s, two ringings again, {again} s each, and "
        f"{HELD_SECONDS} s for which a ringing is held back",
    )
    courier = Courier(stack, trial.chance)
    out_of_order = Manner(held_now_and_then, shuffled=SHUFFLED, gather_seconds=1.0)
    with courier.on_duty():
        with trial.load(RATES) as load, lanes(load, trial.seed) as emitted:
            for _ in trial.rounds():
                with courier.carrying(out_of_order):
                    trial.pause(1.2, 2.0)
                    stack.kill(trial.chance.choice(stack.names("worker")))
                    trial.pause(0.5, 1.0)
                trial.recovered(load, bound, cut_off=1)
        trial.note(
            f"{courier.fetched.total()} ringings, up to {courier.most_shuffled} shuffled at once; "
            f"{sum(map(len, emitted.values()))} commands in {len(emitted)} lanes"
        )
        load.await_quiet(seconds=60)
        for lane, numbers in emitted.items():
            trial.expect(happened(stack, numbers) == numbers, f"{lane} is out of order")
        trial.expect(courier.most_shuffled >= FEW, "hardly anything was shuffled")
        trial.conclude(load, bound)


@contextlib.contextmanager
def lanes(load: Load, seed: int) -> Iterator[dict[str, list[str]]]:
    """Commands of a few lanes for the length of a block; their numbers in order of emission."""
    stopping, chance = threading.Event(), random.Random(f"{seed} lanes")
    emitted: defaultdict[str, list[str]] = defaultdict(list)

    def send() -> None:
        for turn in itertools.cycle(range(LANES)):
            if stopping.wait(chance.expovariate(LANE_COMMANDS_PER_SECOND)):
                return
            lane, number = f"lane-{turn}", str(uuid7())
            emitted[lane].append(number)
            load.emit("lane", load.projects[0], Probe(number=number, order=lane))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield emitted
    finally:
        stopping.set()
        sender.join()


def happened(stack: Stack, numbers: list[str]) -> list[str]:
    """*numbers* in the order of their effects."""
    return [
        row[0]
        for row in stack.rows(
            "SELECT number FROM faults.effects WHERE number = ANY(%s) ORDER BY seq", numbers
        )
    ]
