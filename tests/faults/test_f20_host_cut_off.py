"""F-20: the cable between two hosts pulled and plugged in again, inside one load.

Workers, delivery and the holder of leases run on the other host, Postgres and the bus on this.
"""

from __future__ import annotations

import contextlib
import time

import pytest

from tests.faults.layout import RESTART_SECONDS, Layout
from tests.faults.load import Rates
from tests.faults.network import OtherHost, why_not
from tests.faults.trial import Bound

FAULT = "F-20"
HOST = OtherHost.of_this_process()
NO_HOST = why_not()
THERE = ("worker-1", "worker-2", "delivery-1", "holder-1")
LAYOUT = Layout() if NO_HOST else Layout(wrapped=tuple((name, HOST.prefix) for name in THERE))


@pytest.fixture(scope="module")
def stack(stacks):
    """The cable is there before the processes and after them."""
    with contextlib.nullcontext() if NO_HOST else HOST.connected():
        made = stacks.of(LAYOUT)
        yield made
        if not NO_HOST:
            stacks.close()


def test_a_host_that_is_cut_off_loses_and_doubles_nothing(stack, trial):
    """The cable pulled for one to six seconds between workers and Postgres and bus.

    Guarantee: both ends notice by themselves, and what the other host had taken is done once.
    """
    if NO_HOST:
        trial.skip(NO_HOST)
    settings = stack.settings
    silence, deaf = settings.database_silence_seconds, 1 + 2 * settings.bus_health_seconds
    bound = Bound(
        max(silence + settings.database_connect_seconds, deaf, RESTART_SECONDS)
        + max(2 * settings.ring_again_seconds, settings.lease_seconds),
        f"silence is noticed after {silence} s on the way to Postgres and {deaf} s to the bus, a "
        f"worker that ends is back in {RESTART_SECONDS} s; then a lease of "
        f"{settings.lease_seconds} s runs out or it is rung again, twice "
        f"{settings.ring_again_seconds} s",
    )
    open_to(stack, HOST)
    # The shop of phased work is on the loopback of this host.
    with trial.load(Rates(phased=0)) as load:
        for _ in trial.rounds(full=10):
            trial.pause()
            with HOST.cut_off():
                time.sleep(trial.chance.uniform(1, 6))
            trial.recovered(load, bound, cut_off=4 * stack.layout.workers)
    trial.conclude(load, bound)


def open_to(stack, host):
    """Postgres and the bus listen on the cable as well."""
    stack.bus.config_set("bind", f"127.0.0.1 {host.ours}")
    server = stack.postgres
    server.command = [
        part.replace("listen_addresses=127.0.0.1", f"listen_addresses=127.0.0.1,{host.ours}")
        for part in server.command
    ]
    with (server.log.parent / "data" / "pg_hba.conf").open("a") as rules:
        rules.write(f"host all all {host.theirs}/32 scram-sha-256\n")
    stack.restart_postgres(down_seconds=0.1)
    # That restart is no part of the fault: the load begins when the gateway has Postgres again.
    stack.await_ready()
