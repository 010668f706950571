"""F-17: answers of a provider of jobs malformed; none of them is a stream."""

from __future__ import annotations

from shared.testing import upstream as acts
from shared.testing.provider import answer_with
from tests.faults.training import (
    LAYOUT,
    LONGEST_POLL_SECONDS,
    bound_of_job,
    conclude,
    over,
    training,
)

__all__ = ["LAYOUT"]
FAULT = "F-17"
BROKEN = {
    "half": acts.send_raw(b'{"id": "ftjob-'),
    "no JSON": acts.send_raw(b"\xff\xfe<html>"),
    "another type": acts.send_raw(b"[]"),
    "nothing": acts.send_raw(b""),
    "an id that leads elsewhere": answer_with(id="../../etc", data=[{"id": "../.."}]),
}
OPERATIONS = ["list_files", "upload", "list_jobs", "create", "retrieve", "events", "checkpoints"]


def test_malformed_answer_of_a_provider_of_jobs_is_none(stack, trial):
    """Answers of a provider of jobs cut, unreadable, of a wrong type or with unfit ids.

    Guarantee: what it may have done is looked for and not done again, and the job goes on.
    """
    bound = bound_of_job(
        len(BROKEN) * LONGEST_POLL_SECONDS,
        f"a pause of at most {LONGEST_POLL_SECONDS} s after each of {len(BROKEN)} answers",
    )
    garbled = 0
    with training(stack, trial) as (load, service, orders):
        for _ in trial.rounds():
            trial.pause()
            for act in BROKEN.values():
                service.once(act, on=trial.chance.choice(OPERATIONS))
                garbled += 1
            over(trial, load, orders, orders.order(1), bound)
            service.behave()
    conclude(trial, load, orders, bound, f"{garbled} answers were garbled", wanted="succeeded")
