"""F-11: kill -9 of the Postgres server, half a second to three seconds down, inside one load."""

from __future__ import annotations

import time

from tests.faults.trial import Bound

FAULT = "F-11"
# Refused connections are told at once; this much is the machine's.
ANSWER_SECONDS = 5.0


def test_restarted_postgres_loses_and_doubles_nothing(stack, trial):
    """Postgres killed, and started again on its data.

    Guarantee: the API answers 503 with Retry-After, never 500, and keeps nobody waiting; what it
    or a commit refused never happened; every pool recovers by itself.
    """
    settings = stack.settings
    bound = Bound(
        2 * settings.ring_again_seconds + settings.lease_seconds,
        f"what was rung in vain is rung again, twice {settings.ring_again_seconds} s, and a lease "
        f"of {settings.lease_seconds} s runs out",
    )
    away, api_back = [], []
    with trial.load() as load:
        for _ in trial.rounds():
            trial.pause()
            away.append(trial.chance.uniform(0.5, 3))
            stack.restart_postgres(down_seconds=away[-1])
            back = time.time()
            trial.recovered(load, bound, cut_off=stack.layout.workers)
            api_back.append(load.api_after(back))
    trial.note(
        f"Postgres was away for {sum(away):.1f} s, the API answered {dict(load.answers)}, "
        f"and did what it was asked for {max(api_back):.1f} s after Postgres was back, or sooner"
    )
    trial.conclude(load, bound, contradictions=load.unfit_answers(within_seconds=ANSWER_SECONDS))
