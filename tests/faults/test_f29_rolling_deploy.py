"""F-29: release 0.1.0 and the code of today side by side on today's schema, in both directions."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from infra.local.settings import free_port
from tests.faults.doors import Doors, asked, further_gateway, status_of
from tests.faults.earlier_release import checked_out, of_release
from tests.faults.layout import RESTART_SECONDS, Layout
from tests.faults.load import Load
from tests.faults.stack import Stack
from tests.faults.trial import Bound, Trial
from tests.faults.watching import group_of, until

FAULT = "F-29"
# The first of a kind is the release's. Gateways listen on two ports; the suite, as a balancer
# would, asks another one before it stops one.
# 0.1.0 rings again what still waits in the bus. So a window has to be done before it is rung again,
# by one child on a busy machine; and half as many rows as in production still share messages.
LAYOUT = Layout(
    deliveries=2, holders=2, settings=(("ring_window", 32), ("ring_again_seconds", 4.0))
)
OLD, NEW = 1, 2
OLD_GATEWAY = "gateway-released"
OLD_PORT = free_port()
KEYS = "/api/v1/keys"
# As many rows as share messages of the bus, once several do.
BURST = 60


@dataclass(frozen=True)
class Stage:
    """Which releases run at one time, by role."""

    name: str
    workers: tuple[int, ...]
    deliveries: tuple[int, ...]
    gateway: str

    @property
    def processes(self) -> set[str]:
        return {f"worker-{n}" for n in self.workers} | {f"delivery-{n}" for n in self.deliveries}


STAGES = (
    Stage("both workers under both deliveries", (OLD, NEW), (OLD, NEW), "gateway"),
    Stage("both workers under the new delivery", (OLD, NEW), (NEW,), OLD_GATEWAY),
    Stage("old worker under the new delivery", (OLD,), (NEW,), "gateway"),
    Stage("new worker under the old delivery", (NEW,), (OLD,), OLD_GATEWAY),
    Stage("both workers under the old delivery", (OLD, NEW), (OLD,), "gateway"),
)
# Those in which one release alone does all the work, and the one in which both are back.
SHORT_STAGES = STAGES[2:]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Where 0.1.0 lies, and why it does not."""
    folder = tmp_path_factory.mktemp("released") / "0.1.0"
    with checked_out(folder) as why_not:
        yield folder, why_not


@pytest.fixture(scope="module")
def stack(stacks, release: tuple[Path, str]) -> Stack:
    folder, why_not = release
    if why_not:
        return stacks.of(Layout())
    variables = of_release(folder)
    old = tuple((f"{role}-{OLD}", ("env", *variables)) for role in ("worker", "delivery", "holder"))
    gateway = further_gateway(OLD_GATEWAY, OLD_PORT, *variables)
    return stacks.of(replace(LAYOUT, wrapped=old, further=(gateway,)))


def test_releases_side_by_side(stack: Stack, trial: Trial, release: tuple[Path, str]):
    """Workers, deliveries and gateways of 0.1.0 and of today swapped during load.

    Guarantee: in whichever order a deployment or its undoing goes, every request is answered 2xx,
    every command takes effect once, no task crashes, and nothing becomes a dead letter.
    """
    if why_not := release[1]:
        trial.skip(why_not)
    again = stack.settings.ring_again_seconds
    bound = Bound(
        RESTART_SECONDS + 2 * again,
        f"a new process is up within {RESTART_SECONDS} s; of a message with several ids 0.1.0 "
        f"answers the first, and the others are rung again, alone, after {again} s, twice at most",
    )
    doors = Doors(stack, {OLD_GATEWAY: OLD_PORT, "gateway": stack.port})
    shares: dict[str, str] = {}
    with everything_up_again(doors), trial.load() as load:
        for _ in trial.rounds(full=3):
            for stage in STAGES if trial.is_full else SHORT_STAGES:
                become(doors, stage)
                shares[stage.name] = work_on(stack, trial, load, stage)
                keys_fit_both_doors(doors, trial, load.projects[0])
                trial.recovered(load, bound)
    trial.note("; ".join(f"{name}: {share}" for name, share in shares.items()))
    trial.note(f"answers of both gateways: {dict(load.answers)}")
    expect_no_error(stack, trial, load)
    trial.conclude(load, bound)


@contextlib.contextmanager
def everything_up_again(doors: Doors) -> Iterator[None]:
    doors.await_ready()
    try:
        yield
    finally:
        become(doors, STAGES[0])
        doors.stack.port = doors.ports["gateway"]


def become(doors: Doors, stage: Stage) -> None:
    """Start what is missing, then stop what is too much, as a deployment does."""
    stack = doors.stack
    up = {state.name for state in stack.states() if state.pid}
    began = time.time()
    for name in sorted(stage.processes - up):
        stack.start(name)
        if name.startswith("worker"):
            until(lambda name=name: effects_since(stack, name, began), what=f"{name} works")
    if doors.asked != stage.gateway:
        doors.restart(doors.asked)
    for name in sorted((STAGES[0].processes - stage.processes) & up):
        stack.stop(name)


def work_on(stack: Stack, trial: Trial, load: Load, stage: Stage) -> str:
    """A burst, until every worker of the stage has had its share of it; returns the shares."""
    began = time.time()
    load.burst(trial.chance, BURST)
    names = [f"worker-{number}" for number in stage.workers]
    until(
        lambda: all(effects_since(stack, name, began) for name in names),
        what=f"{' and '.join(names)} work",
        seconds=60,
    )
    return " + ".join(str(effects_since(stack, name, began)) for name in names)


def effects_since(stack: Stack, name: str, instant: float) -> int:
    """How many effects the children of a worker have left since a Unix time."""
    main = stack.pid(name)
    counts = stack.rows(
        "SELECT by, count(*) FROM faults.effects WHERE at > to_timestamp(%s) GROUP BY by", instant
    )
    return sum(count for by, count in counts if group_of(int(by)) == main)


def keys_fit_both_doors(doors: Doors, trial: Trial, project: str) -> None:
    """A key that one gateway makes opens the other."""
    for name, port in doors.ports.items():
        body = {"name": "side by side", "scopes": ["keys:write"]}
        status, made = asked(port, KEYS, doors.stack.key(project), body)
        trial.expect(status == 200, f"{name} makes no key: {status} {made}")
        there = doors.ports[doors.other(name)]
        found = status_of(there, KEYS, str(made.get("key")))
        trial.expect(found == 200, f"a key of {name} does not open the other door: {found}")


def expect_no_error(stack: Stack, trial: Trial, load: Load) -> None:
    ((dead,),) = stack.rows("SELECT count(*) FROM spine.dead_letters")
    trial.expect(dead == 0, f"{dead} dead letters")
    crashes = [line for line in stack.logs().splitlines() if "task_crashed" in line]
    trial.expect(not crashes, f"{len(crashes)} tasks crashed, for example {crashes[:1]}")
    deferred = stack.logs().count('"outcome": "deferred"')
    trial.expect(deferred == 0, f"{deferred} attempts failed")
