"""F-31: a process dies between two steps that cannot be one: record and message, effect and ack.

No fail-point in the product: the gate before the bus stalls whoever sends certain bytes, so that
he waits at that very place until he is killed.
"""

from __future__ import annotations

import contextlib
import os

import psutil
import pytest

from shared.testing.gate import Weather
from tests.faults.layout import RESTART_SECONDS, Layout
from tests.faults.stack import Stack
from tests.faults.trial import Bound
from tests.faults.watching import until

FAULT = "F-31"
LAYOUT = Layout(has_gates=True)

# What kombu sends over Redis: `LPUSH` publishes; `ZADD` records that a message was taken from
# its queue, `ZREM` that it was acknowledged.
PLACES = {
    "between mark and publish": Weather(stall_before=b"LPUSH"),
    "between publish and its answer": Weather(stall_after=b"LPUSH"),
    "between fetch and record": Weather(stall_before=b"ZADD"),
    "between effect and acknowledgement": Weather(stall_before=b"ZREM"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_crash_between_two_steps_costs_time_alone(stack, trial, place):
    """Process killed at an exact place.

    Guarantee: what was marked and not rung is rung again, and what was done and not acknowledged
    is not done again.
    """
    again = stack.settings.ring_again_seconds
    bound = Bound(
        RESTART_SECONDS + 2 * again,
        f"a restart {RESTART_SECONDS} s and two ringings again, {again} s each",
    )
    killed = []
    with trial.load() as load:
        for _ in trial.rounds(full=10):
            trial.pause(0.2, 1.0)
            killed.append(kill_whoever_comes_to(stack, PLACES[place]))
            trial.recovered(load, bound, cut_off=1)
    trial.note(", ".join(f"{name} {killed.count(name)}" for name in sorted(set(killed))))
    trial.conclude(load, bound)


def kill_whoever_comes_to(stack: Stack, weather: Weather) -> str:
    """Kill the first process that sends the bytes, and whoever stalls with it; its name."""
    gate = stack.bus_gate
    before = len(gate.stalled)
    with gate.during(weather):
        first = until(
            lambda: names_of_clients(stack, gate.stalled[before:]),
            what="somebody comes to the place",
        )[0]
    for name in {first, *names_of_clients(stack, gate.stalled[before:])}:
        stack.kill(name)
    return first


def names_of_clients(stack: Stack, ports: list[int]) -> list[str]:
    """The supervised processes with connections to the gate from *ports*; without the dead."""
    owners = {c.laddr.port: c.pid for c in psutil.net_connections("tcp4") if c.pid}
    named = {state.pid: state.name for state in stack.states()}
    names = []
    for port in ports:
        with contextlib.suppress(KeyError, ProcessLookupError):
            names.append(named[os.getpgid(owners[port])])
    return names
