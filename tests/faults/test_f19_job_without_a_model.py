"""F-19: a provider of jobs says succeeded and has no model, or says a word nobody knows."""

from __future__ import annotations

from shared.testing import upstream as acts
from shared.testing.provider import answer_with, word
from tests.faults.training import (
    LAYOUT,
    LONGEST_POLL_SECONDS,
    bound_of_job,
    conclude,
    over,
    training,
)
from tests.faults.watching import until

__all__ = ["LAYOUT"]
FAULT = "F-19"
# Operation, what is said to it, and after how many of its calls the lie was heard often enough.
LIES = {
    "succeeded, then 404 on its model": ("model", acts.not_found),
    "succeeded, then 404 on its metrics": ("content", acts.not_found),
    "succeeded without a name": (
        "retrieve",
        answer_with(status="succeeded", fine_tuned_model=None),
    ),
    "a word nobody knows": ("retrieve", word("transmogrified")),
    "a word that is nearly ours": ("retrieve", word("Succeeded")),
}
HEARD = 4


def test_job_that_says_succeeded_is_not_believed(stack, trial):
    """A provider of jobs says succeeded and answers 404 to what was made, or says an unknown word.

    Guarantee: the job is not succeeded while it does, and is afterwards.
    """
    bound = bound_of_job(2 * LONGEST_POLL_SECONDS, f"two pauses of {LONGEST_POLL_SECONDS} s")
    believed = set()
    with training(stack, trial) as (load, service, orders):
        for number in trial.rounds():
            trial.pause()
            on, act = LIES[trial.in_turn(list(LIES), number)]
            with service.during(act, on=on):
                before = len(service.calls(on))
                jobs = orders.order(1)
                until(lambda: len(service.calls(on)) >= before + HEARD, what="it is heard")  # noqa: B023
                believed |= orders.states(jobs) & {"succeeded", "failed"}
            over(trial, load, orders, jobs, bound)
    trial.expect(not believed, f"jobs were {believed} while their provider lied")
    conclude(trial, load, orders, bound, f"{len(orders.jobs)} lies", wanted="succeeded")
