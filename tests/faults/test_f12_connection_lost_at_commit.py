"""F-12: connections reset after COMMIT has left and before its answer is back, inside one load."""

from __future__ import annotations

from shared.testing.gate import Weather
from tests.faults.layout import Layout
from tests.faults.trial import REFUSING, bound_of_ringing
from tests.faults.watching import until

FAULT = "F-12"
LAYOUT = Layout(has_gates=True)


def test_commits_without_an_answer_are_looked_up_not_guessed(stack, trial):
    """Every commit's answer cut off for a while, for senders, API, workers and delivery alike.

    Guarantee: a sender is told that the outcome is unknown, and never something false; who repeats
    under an idempotency key ends with one effect; a delivery whose commit was cut is done once.
    """
    bound = bound_of_ringing(stack.settings)
    gate = stack.postgres_gate
    cuts = 0
    with trial.load() as load:
        for _ in trial.rounds():
            trial.pause()
            unknown, before = len(load.unknown), gate.cuts
            with gate.during(Weather(cut_after=b"COMMIT")):
                until(lambda: len(load.unknown) > unknown, what="a sender is cut off")  # noqa: B023
            cuts += gate.cuts - before
            trial.recovered(load, bound, cut_off=gate.cuts - before)
    happened = len(load.unknown & set(load.effects()))
    trial.note(
        f"{cuts} commits cut; of {len(load.unknown)} unknown outcomes {happened} had happened; "
        f"the API answered {dict(load.answers)}"
    )
    trial.contradictions += load.unfit_answers(within_seconds=5.0)
    trial.conclude(load, bound, answers=REFUSING)
