"""The control: the same faults, done to plain Celery tasks with our broker settings.

As many tasks a second, and as long a backlog, as commands in the trial of the fault itself.

Its losses are the finding, so nothing is promised here, only that the measurement is sound.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable

import pytest

from shared.broker import make_celery
from tests.faults import test_f01_worker_killed as f01
from tests.faults import test_f06_bus_restarted as f06
from tests.faults import test_f07_bus_wiped as f07
from tests.faults.layout import Layout
from tests.faults.load import Rates
from tests.faults.plain import PlainLoad
from tests.faults.report import Result
from tests.faults.stack import Stack
from tests.faults.trial import bound_of_worker
from tests.faults.watching import until

FAULT = "control"
# What one fault happens to lose shows nothing.
pytestmark = pytest.mark.all_rounds
LAYOUT = Layout(workers=0, deliveries=0, holders=0, has_gateway=False, plain_workers=2)

# The broker looks for what is overdue every 10 s (`unacked_restore_interval`).
SWEEP_SECONDS = 10.0
# Of a worker killed within its sweep, the lock outlives it (`unacked_mutex_expire`).
SWEEP_LOCK_SECONDS = 30.0
SLACK_SECONDS = 5.0


def kill_a_worker(stack: Stack, chance: random.Random) -> None:
    stack.kill(chance.choice(stack.names("plain")))


def restart_bus(stack: Stack, chance: random.Random) -> None:
    stack.restart_bus(down_seconds=chance.uniform(0.5, 3))


def restart_bus_without_log(stack: Stack, chance: random.Random) -> None:
    stack.restart_bus(down_seconds=chance.uniform(0.5, 3), wipe=True)


def wipe_bus(stack: Stack, _chance: random.Random) -> None:
    stack.bus.flushall()


def cut_connections(stack: Stack, _chance: random.Random) -> None:
    stack.bus.client_kill_filter(_type="normal", skipme=True)


@pytest.mark.parametrize(
    ("fault", "inject", "rates", "backlog"),
    [
        pytest.param("F-01", kill_a_worker, f01.RATES, 0, id="worker and its children killed"),
        pytest.param(
            "F-06", restart_bus, Rates(), f06.BACKLOG, id="bus killed with a backlog, log kept"
        ),
        pytest.param("F-06", restart_bus_without_log, Rates(), f06.BACKLOG, id="the same, no log"),
        pytest.param("F-07", wipe_bus, Rates(), f07.ONCE[1], id="bus emptied with a backlog"),
        pytest.param("F-10", cut_connections, Rates(), 0, id="all connections to the bus cut"),
    ],
)
def test_measure_what_plain_celery_loses(
    stack: Stack,
    trial,
    fault: str,
    inject: Callable[[Stack, random.Random], None],
    rates: Rates,
    backlog: int,
) -> None:
    """Plain Celery

    Guarantee: none. Lost is what the broker took and nobody did, once all workers have had nothing
    to do for a visibility timeout and the broker's own sweep.
    """
    told = f"{rates.total:.1f} tasks a second" + (f", backlog {backlog}" if backlog else "")
    load = PlainLoad(stack, make_celery(stack.settings), trial.chance, rates.total)
    rounds = 0
    with load.running():
        # A wipe loses its whole backlog; a kill loses one task now and then.
        for _ in trial.rounds(full=6 if backlog else 20):
            load.publish(backlog)
            trial.pause(0, 0.5)
            inject(stack, trial.chance)
            rounds += 1
            await_workers(stack)
    lost = load.await_rest(
        stack.settings.visibility_timeout_seconds
        + SWEEP_SECONDS
        + SWEEP_LOCK_SECONDS
        + SLACK_SECONDS
    )
    effects = load.effects()
    title = trial.title.removeprefix("Plain Celery, ")
    trial.results.append(
        Result(
            fault=fault,
            title=title,
            rounds=rounds,
            accepted=len(load.accepted),
            unknown=len(load.unknown),
            lost=len(lost),
            doubled=sum(count > 1 for count in effects.values()),
            notes=(f"{title}: {len(lost) / rounds:.2f} lost by each; {told}",),
            is_control=True,
        )
    )
    assert load.accepted
    assert effects, "no task was ever done: there is nothing to compare with"


def await_workers(stack: Stack) -> None:
    """Until every worker has done something again, or had its time to."""
    since = time.time()
    with contextlib.suppress(AssertionError):
        until(
            lambda: stack.have_worked("plain", since),
            what="every worker takes part",
            seconds=bound_of_worker(stack.settings).seconds,
        )
