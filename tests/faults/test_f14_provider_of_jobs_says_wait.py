"""F-14: a provider of jobs answers 429, with and without Retry-After."""

from __future__ import annotations

import time

from shared.testing import upstream as acts
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
FAULT = "F-14"
RESTS = [1.0, 3.0, None]
OPERATIONS = ["list_files", "upload", "create", "retrieve", "events", "content", "delete_file"]


def test_rest_that_a_provider_of_jobs_asks_for_is_given(stack, trial):
    """429 of a provider of jobs, at any of its steps, with a short, a long and no Retry-After.

    Guarantee: the job is not asked about before Retry-After is over, and then goes on.
    """
    longest = max(rest for rest in RESTS if rest)
    bound = bound_of_job(longest, f"the longest rest {longest} s")
    early = 0
    with training(stack, trial) as (load, service, orders):
        for number in trial.rounds():
            trial.pause()
            rest = trial.in_turn(RESTS, number)
            refused = []
            service.once(
                noted(acts.refuse(429, retry_after=rest), refused),
                on=trial.chance.choice(OPERATIONS),
            )
            jobs = orders.order(1)
            until(lambda: refused, what="somebody is refused")  # noqa: B023
            over(trial, load, orders, jobs, bound)
            calls = [call.at for call in service.calls()]
            early += sum(refused[0] < at < refused[0] + (rest or 0) for at in calls)
    trial.expect(early == 0, f"{early} calls came before Retry-After was over")
    figures = f"{early} calls in a rest; without one at most {LONGEST_POLL_SECONDS} s are waited"
    conclude(trial, load, orders, bound, figures, wanted="succeeded")


def noted(act, instants):
    """The *act*, and when it was done."""

    def doing(exchange):
        act(exchange)
        instants.append(time.monotonic())

    return doing
