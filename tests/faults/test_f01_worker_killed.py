"""F-01: kill -9 of a worker with its children, at random instants inside one load."""

from __future__ import annotations

from tests.faults.trial import bound_of_worker

FAULT = "F-01"


def test_killed_worker_loses_and_doubles_nothing(stack, trial):
    """Worker and its children killed in the middle of tasks.

    Guarantee: what a killed worker had taken is done by another, once, when it is rung again.
    """
    bound = bound_of_worker(stack.settings)
    with trial.load() as load:
        for _ in trial.rounds():
            trial.pause()
            stack.kill(trial.chance.choice(stack.names("worker")))
            trial.recovered(load, bound, cut_off=1)
    trial.conclude(load, bound)
