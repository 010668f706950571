"""F-15: a provider of jobs answers 500 or 503 to everything for a while."""

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

__all__ = ["LAYOUT"]
FAULT = "F-15"
OPERATIONS = ["list_files", "upload", "list_jobs", "create", "retrieve", "events", "model"]
# Tries that a job has in two seconds, with full jitter below 0.2, 0.4, 0.8, 1, 1 s: seldom ten.
MOST_TRIES = 20


def test_provider_of_jobs_that_breaks_for_a_while_is_left_alone_more_and_more(stack, trial):
    """500 or 503 of a provider of jobs to everything, for one to two seconds.

    Guarantee: every job goes on where it was, and each asks more and more rarely meanwhile.
    """
    bound = bound_of_job(LONGEST_POLL_SECONDS, f"the longest pause {LONGEST_POLL_SECONDS} s")
    most = 0
    with training(stack, trial) as (load, service, orders):
        for _ in trial.rounds():
            jobs = orders.order()
            trial.pause(0, 2)
            before = len(service.calls())
            for operation in OPERATIONS:
                service.always(acts.refuse(trial.chance.choice([500, 503])), on=operation)
            time.sleep(trial.chance.uniform(1, 2))
            service.behave()
            most = max(most, (len(service.calls()) - before) / len(jobs))
            over(trial, load, orders, jobs, bound)
    trial.expect(most <= MOST_TRIES, f"a job asked {most:.0f} times while its provider was broken")
    figures = f"at most {most:.1f} calls a job while nothing was answered"
    conclude(trial, load, orders, bound, figures, wanted="succeeded")
