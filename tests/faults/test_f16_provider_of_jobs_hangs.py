"""F-16: a provider of jobs begins and does not end."""

from __future__ import annotations

from shared.testing import upstream as acts
from tests.faults.training import (
    LAYOUT,
    LONGEST_POLL_SECONDS,
    STEP_SECONDS,
    bound_of_job,
    conclude,
    over,
    training,
)
from tests.faults.watching import until

__all__ = ["LAYOUT"]
FAULT = "F-16"
HANGING = {
    "no answer": acts.hang,
    "half a body": acts.half_a_body,
    "one byte a second": acts.drip(1.0),
}
OPERATIONS = ["list_files", "upload", "create", "retrieve", "events", "checkpoints", "content"]


def test_provider_of_jobs_that_hangs_is_left(stack, trial):
    """No answer, half a body or a byte a second of a provider of jobs, at any of its steps.

    Guarantee: the call is left within the time of a step, its worker is free, and the job goes on.
    """
    bound = bound_of_job(
        STEP_SECONDS + LONGEST_POLL_SECONDS,
        f"the time of a step {STEP_SECONDS} s and the longest pause {LONGEST_POLL_SECONDS} s",
    )
    hung = 0
    with training(stack, trial) as (load, service, orders):
        for number in trial.rounds():
            trial.pause()
            hung += 1
            service.once(
                HANGING[trial.in_turn(list(HANGING), number)], on=trial.chance.choice(OPERATIONS)
            )
            jobs = orders.order(1)
            until(lambda: service.departures >= hung, what="the hanging call is left")  # noqa: B023
            over(trial, load, orders, jobs, bound)
    trial.expect(service.departures == hung, f"{service.departures} of {hung} calls were left")
    conclude(trial, load, orders, bound, f"{hung} calls hung, all were left", wanted="succeeded")
