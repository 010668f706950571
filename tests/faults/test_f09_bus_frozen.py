"""F-09: SIGSTOP of the bus, for less and for more than the socket time-out."""

from __future__ import annotations

import time

from tests.faults.load import Rates
from tests.faults.trial import bound_of_worker

FAULT = "F-09"

# A request that waited for the bus would take as long as the freeze lasts. The slack is what a
# busy machine of two cores adds to the slowest of a hundred answers.
RATIO, SLACK_SECONDS = 1.5, 0.25
FREEZES = (1.0, 3.0)


def test_frozen_bus_slows_no_request(stack, trial):
    """Bus frozen, in part for longer than the socket time-out

    Guarantee: no request touches the bus, so the API's latency is what it was; commands are
    accepted as ever, and all is done once the bus goes on.
    """
    timeout = stack.settings.bus_timeout_seconds
    bound = bound_of_worker(stack.settings)
    freezes: list[tuple[float, float]] = []
    accepted = 0
    with trial.load(Rates(api=8.0)) as load:
        for number in trial.rounds():
            trial.pause(1.0, 1.5)
            # The first one is always longer than the time-out.
            seconds = trial.chance.uniform(*FREEZES) if number else FREEZES[1]
            before, began = len(load.accepted), time.time()
            with stack.frozen_bus():
                time.sleep(seconds)
            freezes.append((began, time.time()))
            accepted += len(load.accepted) - before
            trial.recovered(load, bound, cut_off=stack.layout.workers)
    frozen = p99(load, freezes)
    usual = p99(load, gaps(freezes))
    trial.expect(accepted > 0, "nothing was accepted while the bus was frozen")
    trial.expect(
        frozen <= RATIO * usual + SLACK_SECONDS,
        f"the API's p99 was {frozen:.3f} s while the bus was frozen, {usual:.3f} s else",
    )
    longer = sum(end - start > timeout for start, end in freezes)
    trial.note(
        f"p99 of the API {1000 * frozen:.0f} ms frozen, {1000 * usual:.0f} ms before; may be "
        f"{RATIO} times that and {1000 * SLACK_SECONDS:.0f} ms; {accepted} commands accepted "
        f"frozen; {longer} of {len(freezes)} freezes longer than the time-out of {timeout} s"
    )
    trial.conclude(load, bound)


def gaps(freezes: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A second before each freeze."""
    return [(start - 1, start) for start, _ in freezes]


def p99(load, windows: list[tuple[float, float]]) -> float:
    """Of requests that were under way in one of the *windows*, in seconds."""
    took = sorted(
        seconds
        for answered, seconds in load.api_seconds
        if any(answered - seconds < end and answered > start for start, end in windows)
    )
    return took[int(0.99 * (len(took) - 1))]
