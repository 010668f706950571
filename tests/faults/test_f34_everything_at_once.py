"""F-34: three bystanders do one seeded fault after another, each to its own victims, for minutes.

`make faults-soak` runs ten minutes and writes `tests/faults/SOAK.md`.
"""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest

from shared.broker import ROOM_QUEUES, lists_of
from shared.ids import uuid7
from shared.testing.gate import Weather
from tests.faults.layout import RESTART_SECONDS, Layout
from tests.faults.load import Load
from tests.faults.poison import KINDS, poison
from tests.faults.stack import Stack
from tests.faults.test_f13_postgres_slow import LOCKED
from tests.faults.test_f26_poison import (
    POISONED,
    plant_unknown,
    plant_unreadable,
    sound_envelope,
)
from tests.faults.trial import REFUSING, Bound

FAULT = "F-34"
LAYOUT = Layout(deliveries=2, holders=2, has_gates=True)
SOAK_SECONDS = 600.0
SHORT_SECONDS = 15.0
# From one fault of a bystander to its next; with three of them every other second has a new one.
PAUSE_SECONDS = (1.0, 6.0)

pytestmark = [pytest.mark.soak, pytest.mark.all_rounds, pytest.mark.timeout(1500)]

WEATHERS = (
    Weather(delay_seconds=0.2),
    Weather(slice_bytes=7),
    Weather(is_held=True),
    Weather(is_dropping=True),
    Weather(is_refusing=True),
)

Fault = Callable[[Stack, random.Random], None]


def test_everything_at_once(stack, trial):
    """Processes, bus, Postgres and network at once, by a seeded schedule.

    Guarantee: whatever comes together, nothing accepted is lost and nothing happens twice.
    """
    settings = stack.settings
    bound = Bound(
        RESTART_SECONDS + settings.visibility_timeout_seconds + 2 * settings.ring_again_seconds,
        f"a restart {RESTART_SECONDS} s, a frozen worker's transaction and two ringings again "
        f"within the visibility time-out {settings.visibility_timeout_seconds} s "
        f"+ 2 x {settings.ring_again_seconds} s",
    )
    seconds = SOAK_SECONDS if trial.is_full else SHORT_SECONDS
    done: Counter[str] = Counter()
    with trial.load() as load:
        trial.begins()
        with bystanders(stack, trial.seed, done):
            time.sleep(seconds)
        trial.recovered(load, bound, cut_off=sum(CUTTING[name] * done[name] for name in CUTTING))
    listed = ", ".join(f"{name} {count}" for name, count in sorted(done.items()))
    trial.note(f"{sum(done.values())} faults in {seconds:.0f} s: {listed}")
    if trial.is_full:
        never = {fault.__name__ for faults in VICTIMS.values() for fault in faults} - set(done)
        trial.expect(not never, f"never done: {sorted(never)}")
    load.await_quiet(seconds=120)
    trial.note(f"while all this went on no command waited longer than {longest_wait(load):.1f} s")
    # Gateways are killed too.
    trial.conclude(load, bound, answers=REFUSING | {0}, quiet_seconds=120)


def longest_wait(load: Load) -> float:
    """Seconds from the acceptance of a command to its effect, of whichever waited longest."""
    effects = load.effects()
    return max(max(effects[n]) - c.accepted_at for n, c in load.accepted.items() if n in effects)


@contextlib.contextmanager
def bystanders(stack: Stack, seed: int, done: Counter[str]) -> Iterator[None]:
    """One thread per group of victims, for the length of a block; each ends its last fault."""
    stopping = threading.Event()
    broken: list[BaseException] = []

    def stand_by(name: str, faults: Sequence[Fault]) -> None:
        chance = random.Random(f"{seed} {name}")
        try:
            while not stopping.wait(chance.uniform(*PAUSE_SECONDS)):
                fault = chance.choice(faults)
                fault(stack, chance)
                done[fault.__name__] += 1
        except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
            broken.append(error)

    threads = [threading.Thread(target=stand_by, args=item) for item in VICTIMS.items()]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
    assert not broken, broken


def a_process(stack: Stack, chance: random.Random) -> str:
    return chance.choice([state.name for state in stack.states()])


def a_moment(chance: random.Random) -> float:
    return chance.uniform(0.2, 3.0)


# Processes.


def killed_group(stack: Stack, chance: random.Random) -> None:
    stack.kill(a_process(stack, chance))


def killed_parent(stack: Stack, chance: random.Random) -> None:
    stack.signal(chance.choice(stack.names("worker")), signal.SIGKILL)


def told_to_stop(stack: Stack, chance: random.Random) -> None:
    stack.signal(a_process(stack, chance), chance.choice([signal.SIGTERM, signal.SIGQUIT]))


def frozen_process(stack: Stack, chance: random.Random) -> None:
    with stack.frozen(a_process(stack, chance)):
        time.sleep(2 * a_moment(chance))


# The bus.


def restarted_bus(stack: Stack, chance: random.Random) -> None:
    stack.restart_bus(down_seconds=a_moment(chance), wipe=chance.random() < 0.5)


def emptied_bus(stack: Stack, _chance: random.Random) -> None:
    stack.bus.flushall()


def cut_bus_clients(stack: Stack, _chance: random.Random) -> None:
    stack.bus.execute_command("CLIENT", "KILL", "TYPE", "normal")


def full_bus(stack: Stack, chance: random.Random) -> None:
    before = stack.bus.config_get("maxmemory")["maxmemory"]
    stack.bus.config_set("maxmemory", "1mb")
    try:
        time.sleep(a_moment(chance))
    finally:
        stack.bus.config_set("maxmemory", before)


def frozen_bus(stack: Stack, chance: random.Random) -> None:
    with stack.frozen_bus():
        time.sleep(a_moment(chance))


def poisoned_bus(stack: Stack, chance: random.Random) -> None:
    queue = f"{stack.settings.broker_prefix}{chance.choice(ROOM_QUEUES)}"
    for string in poison(stack, chance.choice(KINDS)):
        stack.bus.lpush(queue, string)


def copied_ringings(stack: Stack, chance: random.Random) -> None:
    """Whatever waits now is rung once more, in any order."""
    prefix = stack.settings.broker_prefix
    for name in (f"{prefix}{part}" for queue in ROOM_QUEUES for part in lists_of(queue)):
        waiting = stack.bus.lrange(name, 0, -1)
        chance.shuffle(waiting)
        if waiting:
            stack.bus.lpush(name, *waiting)


def bus_in_bad_weather(stack: Stack, chance: random.Random) -> None:
    # A corrupted ringing rings nothing; a value corrupted on its way into Postgres would be stored.
    with stack.bus_gate.during(chance.choice([*WEATHERS, Weather(corrupt_share=0.01)])):
        time.sleep(a_moment(chance))
    stack.bus_gate.reset()


# Postgres.


def restarted_postgres(stack: Stack, chance: random.Random) -> None:
    stack.restart_postgres(down_seconds=a_moment(chance))


def lost_commits(stack: Stack, chance: random.Random) -> None:
    with stack.postgres_gate.during(Weather(cut_after=b"COMMIT")):
        time.sleep(a_moment(chance) / 3)


def held_lock(stack: Stack, chance: random.Random) -> None:
    with stack.locked(chance.choice(LOCKED)):
        time.sleep(a_moment(chance))


def poisoned_rows(stack: Stack, _chance: random.Random) -> None:
    plant_unreadable(stack, "drift.probe")
    plant_unknown(stack, attempts_left=2)


def noisy_neighbour(stack: Stack, _chance: random.Random) -> None:
    """More of one project at once than a window holds."""
    sound = sound_envelope(stack)
    for _ in range(2 * stack.settings.ring_window):
        stack.plant(POISONED, "drift.probe", {**sound, "data": {"number": f"noise {uuid7()}"}})


def postgres_in_bad_weather(stack: Stack, chance: random.Random) -> None:
    with stack.postgres_gate.during(chance.choice(WEATHERS)):
        time.sleep(a_moment(chance))
    stack.postgres_gate.reset()


# Attempts in hand that one such fault may cut off: each of the two workers has one child.
CUTTING = {
    **dict.fromkeys(("killed_group", "killed_parent", "told_to_stop", "frozen_process"), 1),
    **dict.fromkeys(("restarted_bus", "cut_bus_clients", "frozen_bus", "bus_in_bad_weather"), 2),
    **dict.fromkeys(
        ("restarted_postgres", "lost_commits", "held_lock", "postgres_in_bad_weather"), 2
    ),
}

VICTIMS: dict[str, Sequence[Fault]] = {
    "processes": (killed_group, killed_parent, told_to_stop, frozen_process),
    "bus": (
        restarted_bus,
        emptied_bus,
        cut_bus_clients,
        full_bus,
        frozen_bus,
        poisoned_bus,
        copied_ringings,
        bus_in_bad_weather,
    ),
    "postgres": (
        restarted_postgres,
        lost_commits,
        held_lock,
        poisoned_rows,
        noisy_neighbour,
        postgres_in_bad_weather,
    ),
}
