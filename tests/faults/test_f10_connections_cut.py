"""F-10: all clients of the bus cut off, every second or so."""

from __future__ import annotations

import random
import time

from tests.faults.load import Load, Rates
from tests.faults.stack import Stack
from tests.faults.trial import bound_of_worker
from tests.faults.watching import until

FAULT = "F-10"

# Long enough to be cut in the middle, few enough to leave the workers half idle.
LONG_TASKS = Rates(probes=4.0, phased=0.6)
BURST = 10


def test_cut_connections_make_no_two_completions_and_no_deaf_worker(stack, trial):
    """All connections to the bus cut

    Guarantee: a task whose connection broke is done once, though the broker hands it out again;
    every worker listens again afterwards.
    """
    bound = bound_of_worker(stack.settings)
    exits = stack.exits("worker")
    cut = 0
    with trial.load(LONG_TASKS, hold_seconds=0.2) as load:
        for _ in trial.rounds():
            trial.pause(0.5, 1.5)
            cut += stack.bus.client_kill_filter(_type="normal", skipme=True)
            trial.recovered(load, bound, cut_off=stack.layout.workers)
        await_heard(stack, load, trial.chance, seconds=bound.seconds)
    gone = stack.exits("worker") - exits
    trial.note(f"{cut} connections cut; {gone} main processes of workers exited")
    trial.conclude(load, bound)


def await_heard(stack: Stack, load: Load, chance: random.Random, *, seconds: float) -> None:
    """Until every worker has done something from now on."""
    since = time.time()

    def all_heard() -> bool:
        load.burst(chance, BURST)
        return stack.have_worked("worker", since)

    until(all_heard, what="every worker takes part", seconds=seconds, pause=0.5)
