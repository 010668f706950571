"""F-20: bytes between everybody and Postgres changed on their way, under TLS, inside one load.

Without TLS nobody could notice: TCP's checksum is made anew by whatever forwards a packet.
"""

from __future__ import annotations

import time

from shared.testing.gate import Weather
from tests.faults.layout import Layout
from tests.faults.load import Rates
from tests.faults.trial import REFUSING, bound_of_silence

FAULT = "F-20"
LAYOUT = Layout(has_gates=True, has_tls=True)


def test_corrupted_bytes_are_lost_connections_and_nothing_else(stack, trial):
    """A byte of some packets to and from Postgres changed for half a second to three seconds.

    Guarantee: TLS makes a broken connection of it, so nothing false is stored or told.
    """
    settings = stack.settings
    bound = bound_of_silence(settings)
    # All bytes go through a TLS of the suite's own, which takes its share of the machine.
    with trial.load(Rates(probes=4, phased=1, jobs=0.5, api=1)) as load:
        for _ in trial.rounds(full=10):
            trial.pause()
            with stack.postgres_gate.during(Weather(corrupt_share=trial.chance.uniform(0.05, 0.3))):
                time.sleep(trial.chance.uniform(0.5, 3))
            trial.recovered(load, bound, cut_off=4 * stack.layout.workers)
    trial.note(f"the API answered {dict(load.answers)}")
    within = (
        settings.database_pool_seconds
        + 2 * settings.answer_seconds
        + settings.database_connect_seconds
    )
    trial.contradictions += load.unfit_answers(within_seconds=within)
    trial.conclude(load, bound, answers=REFUSING)
