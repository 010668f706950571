"""F-18: a provider of jobs did it, and its answer is lost, or whoever asked is killed."""

from __future__ import annotations

from shared.testing import upstream as acts
from tests.faults.training import (
    LAYOUT,
    LONGEST_POLL_SECONDS,
    bound_of_job,
    conclude,
    over,
    training,
)
from tests.faults.trial import bound_of_worker
from tests.faults.watching import until

__all__ = ["LAYOUT"]
FAULT = "F-18"
MAKING = ["upload", "create", "retrieve", "content", "delete_file"]


def test_job_whose_making_was_not_heard_of_is_found(stack, trial):
    """Answers of a provider of jobs lost after their effect, to each of its steps.

    Guarantee: the file is found by its name and the job by its metadata; nothing is made twice.
    """
    bound = bound_of_job(
        len(MAKING) * LONGEST_POLL_SECONDS,
        f"a pause of at most {LONGEST_POLL_SECONDS} s after each of {len(MAKING)} lost answers",
    )
    with training(stack, trial) as (load, service, orders):
        for _ in trial.rounds():
            trial.pause()
            for operation in MAKING:
                service.once(acts.lose_answer, on=operation)
            over(trial, load, orders, orders.order(1), bound)
    trial.expect(
        len(service.calls("upload")) == len(orders.jobs),
        f"{len(service.calls('upload'))} uploads for {len(orders.jobs)} jobs",
    )
    figures = f"{len(MAKING) * len(orders.jobs)} answers were lost"
    conclude(trial, load, orders, bound, figures, wanted="succeeded")


def test_job_whose_worker_was_killed_is_made_once(stack, trial):
    """Workers killed in the middle of jobs at a provider, at a random instant or after a creation.

    Guarantee: whoever comes next finds what was made; nothing is made twice.
    """
    again = bound_of_worker(stack.settings)
    bound = bound_of_job(again.seconds, again.reason)
    with training(stack, trial) as (load, service, orders):
        for number in trial.rounds():
            killed = []
            if number % 2 == 0:
                service.once(killing(stack, killed), on="create")
            jobs = orders.order()
            trial.pause(0, 2)
            if number % 2 == 0:
                until(lambda: killed, what="the workers are killed")  # noqa: B023
            else:
                kill_all(stack)
            over(trial, load, orders, jobs, bound)
    figures = "workers were killed in every round"
    conclude(trial, load, orders, bound, figures, wanted="succeeded")


def test_cancellation_that_was_not_heard_of_is_repeated(stack, trial):
    """Answers of a provider of jobs to cancellations lost, or refused before.

    Guarantee: the provider's job ends, and its owner saw the end of theirs at once.
    """
    bound = bound_of_job(
        3 * LONGEST_POLL_SECONDS, f"three pauses of at most {LONGEST_POLL_SECONDS} s"
    )
    with training(stack, trial) as (load, service, orders):
        service.stages = ("running",)
        for _ in trial.rounds():
            (job,) = orders.order(1)
            until(lambda: orders.states([job]) == {"running"}, what="it runs")  # noqa: B023
            trial.pause()
            first = trial.chance.choice([acts.lose_answer, acts.refuse(503)])
            service.once(first, acts.lose_answer, on="cancel")
            orders.cancel(job)
            trial.expect(orders.states([job]) == {"cancelled"}, "it is not cancelled here")
            over(trial, load, orders, [job], bound)
    left = [job["status"] for job in service.jobs.values() if job["status"] != "cancelled"]
    trial.expect(not left, f"jobs at the provider are {left}")
    figures = f"{len(service.calls('cancel'))} cancellations of {len(orders.jobs)} jobs"
    conclude(trial, load, orders, bound, figures, wanted="cancelled")


def killing(stack, killed):
    """It is done, and the workers are killed before they hear of it."""

    def act(exchange):
        exchange.perform()
        kill_all(stack)
        killed.append(exchange.operation)
        exchange.reset()

    return act


def kill_all(stack):
    for name in stack.names("worker"):
        stack.kill(name)
