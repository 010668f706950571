"""F-20: the network to Postgres or to the bus loses, delays, slices or forgets, inside one load."""

from __future__ import annotations

import contextlib
import time

from shared.testing.gate import Weather
from tests.faults.layout import RESTART_SECONDS, Layout
from tests.faults.trial import REFUSING, Bound, bound_of_silence

FAULT = "F-20"
LAYOUT = Layout(has_gates=True)


@contextlib.contextmanager
def silent(gate, _chance):
    """Bytes vanish; both sides believe that the connection stands, and it does afterwards."""
    with gate.during(Weather(is_dropping=True)):
        yield


@contextlib.contextmanager
def half_open(gate, _chance):
    """Bytes vanish, and when they no longer do, the other side has forgotten all connections."""
    with gate.during(Weather(is_dropping=True)):
        yield
        gate.reset()


@contextlib.contextmanager
def reset(gate, _chance):
    """All connections reset, and new ones as well."""
    with gate.during(Weather(is_refusing=True)):
        gate.reset()
        yield


@contextlib.contextmanager
def slow(gate, chance):
    """Every packet takes a while."""
    with gate.during(Weather(delay_seconds=chance.uniform(0.05, 0.3))):
        yield


@contextlib.contextmanager
def sliced(gate, chance):
    """Everything arrives in crumbs."""
    with gate.during(Weather(slice_bytes=chance.randint(1, 9))):
        yield


@contextlib.contextmanager
def corrupted(gate, chance):
    """One byte of some packets is another."""
    with gate.during(Weather(corrupt_share=chance.uniform(0.05, 0.3))):
        yield


KINDS = (silent, half_open, reset, slow, sliced)


def test_a_bad_network_to_postgres_loses_and_doubles_nothing(stack, trial):
    """The network to Postgres silent, half-open, reset, slow or sliced.

    Guarantee: nobody waits for ever for an answer that was lost; the API answers 503 in time.
    """
    settings = stack.settings
    bound = bound_of_silence(settings)
    with trial.load() as load:
        cut(trial, load, bound, stack.postgres_gate, KINDS)
    trial.note(
        f"the API answered {dict(load.answers)}, at most in "
        f"{max(each.seconds for each in load.exchanges):.1f} s"
    )
    # Looking at a pooled connection, connecting anew, and the first statement, may fail in turn.
    within = (
        settings.database_pool_seconds
        + 2 * settings.answer_seconds
        + settings.database_connect_seconds
    )
    trial.contradictions += load.unfit_answers(within_seconds=within)
    trial.conclude(load, bound, answers=REFUSING)


def test_a_bad_network_to_the_bus_loses_and_doubles_nothing(stack, trial):
    """The network to the bus silent, half-open, reset, slow, sliced or corrupting.

    Guarantee: as if the bus had been frozen or wiped: time is lost, and no work; the API, which
    does without the bus, notices nothing.
    """
    settings = stack.settings
    deaf = 1 + 2 * settings.bus_health_seconds
    bound = Bound(
        deaf + RESTART_SECONDS + 2 * settings.ring_again_seconds,
        f"a worker is deaf for {deaf} s or is started again in {RESTART_SECONDS} s, and what was "
        f"rung in vain is rung again, twice {settings.ring_again_seconds} s",
    )
    with trial.load() as load:
        cut(trial, load, bound, stack.bus_gate, (*KINDS, corrupted))
    trial.conclude(load, bound)


def cut(trial, load, bound, gate, kinds):
    """Each kind in turn, in a random order, for half a second to three seconds."""
    order = trial.chance.sample(kinds, len(kinds))
    worst = dict.fromkeys((kind.__name__ for kind in kinds), 0.0)
    for number in trial.rounds():
        kind = order[number % len(kinds)]
        trial.pause()
        with kind(gate, trial.chance):
            time.sleep(trial.chance.uniform(0.5, 3))
        seconds = trial.recovered(load, bound, cut_off=4 * trial.stack.layout.workers)
        worst[kind.__name__] = max(worst[kind.__name__], seconds)
    trial.note("worst recovery in s: " + ", ".join(f"{k} {s:.1f}" for k, s in worst.items()))
