"""F-29: release 0.1.0 and the code of today side by side on today's schema, in both directions."""

from __future__ import annotations

import contextlib
import json
import os
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from infra.local.settings import free_port
from tests.faults.earlier_release import as_released, checked_out, released_gateway
from tests.faults.load import Load
from tests.faults.stack import RESTART_SECONDS, Layout, Stack, until
from tests.faults.trial import Bound, Trial

FAULT = "F-29"
# The first of a kind is the release's. Gateways listen on two ports; the suite, as a balancer
# would, asks another one before it stops one.
LAYOUT = Layout(deliveries=2, holders=2)
OLD, NEW = 1, 2
OLD_GATEWAY = "gateway-released"
# As many rows as share messages of the bus, once several do.
BURST = 60


@dataclass(frozen=True)
class Stage:
    """Which releases run at one time, by role."""

    name: str
    workers: tuple[int, ...]
    deliveries: tuple[int, ...]
    gateway: int

    @property
    def processes(self) -> set[str]:
        return {f"worker-{n}" for n in self.workers} | {f"delivery-{n}" for n in self.deliveries}


STAGES = (
    Stage("both workers under both deliveries", (OLD, NEW), (OLD, NEW), NEW),
    Stage("both workers under the new delivery", (OLD, NEW), (NEW,), OLD),
    Stage("old worker under the new delivery", (OLD,), (NEW,), NEW),
    Stage("new worker under the old delivery", (NEW,), (OLD,), OLD),
    Stage("both workers under the old delivery", (OLD, NEW), (OLD,), NEW),
)


@dataclass(frozen=True)
class Deploy:
    """
    Attributes:
        why_not: Why 0.1.0 does not run here; empty when it does.
        ports: Of the gateways, by release.
    """

    why_not: str
    ports: dict[int, int]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("released") / "0.1.0"
    with checked_out(folder) as why_not:
        yield folder, why_not


@pytest.fixture(scope="module")
def deploy(release: tuple[Path, str]) -> Deploy:
    return Deploy(release[1], {OLD: free_port()})


@pytest.fixture(scope="module")
def stack(stacks, release: tuple[Path, str], deploy: Deploy) -> Stack:
    folder, why_not = release
    if why_not:
        return stacks.of(Layout())
    old = tuple((f"{role}-{OLD}", as_released(folder)) for role in ("worker", "delivery", "holder"))
    gateway = released_gateway(OLD_GATEWAY, folder, deploy.ports[OLD])
    made = stacks.of(replace(LAYOUT, wrapped=old, further=(gateway,)))
    deploy.ports[NEW] = made.port
    return made


def test_releases_side_by_side(stack: Stack, trial: Trial, deploy: Deploy):
    """Workers, deliveries and gateways of 0.1.0 and of today swapped during load.

    Guarantee: in whichever order a deployment or its undoing goes, every request is answered 2xx,
    every command takes effect once, no task crashes, and nothing becomes a dead letter.
    """
    if deploy.why_not:
        trial.skip(deploy.why_not)
    again = stack.settings.ring_again_seconds
    bound = Bound(
        RESTART_SECONDS + 2 * again,
        f"a new process is up within {RESTART_SECONDS} s; of a message with several ids 0.1.0 "
        f"answers the first, and the others are rung again, alone, after {again} s, twice at most",
    )
    shares: dict[str, str] = {}
    with everything_up_again(stack, deploy), trial.load() as load:
        for _ in trial.rounds(full=3):
            for stage in STAGES:
                become(stack, deploy, stage)
                shares[stage.name] = work_on(stack, trial, load, stage)
                keys_fit_both_doors(stack, deploy, load.projects[0])
                trial.recovered(load, bound)
    trial.note("; ".join(f"{name}: {share}" for name, share in shares.items()))
    trial.note(f"answers of both gateways: {dict(load.answers)}")
    expect_no_error(stack, trial, load)
    trial.conclude(load, bound)


@contextlib.contextmanager
def everything_up_again(stack: Stack, deploy: Deploy) -> Iterator[None]:
    until(lambda: is_ready(deploy.ports[OLD]), what="the released gateway is ready", seconds=60)
    try:
        yield
    finally:
        become(stack, deploy, STAGES[0])
        stack.port = deploy.ports[NEW]


def become(stack: Stack, deploy: Deploy, stage: Stage) -> None:
    """Start what is missing, then stop what is too much, as a deployment does."""
    ends = everything() - stage.processes
    up = {state.name for state in stack.states() if state.pid}
    began = time.time()
    for name in sorted(stage.processes - up):
        stack.start(name)
        if name.startswith("worker"):
            until(lambda name=name: effects_since(stack, name, began), what=f"{name} works")
    swap_gateways(stack, deploy, stage.gateway)
    for name in sorted(ends & up):
        stack.stop(name)


def everything() -> set[str]:
    return STAGES[0].processes


def swap_gateways(stack: Stack, deploy: Deploy, wanted: int) -> None:
    """Ask the other one from now on, and have the one asked so far end in order and come back."""
    before = next(release for release, port in deploy.ports.items() if port == stack.port)
    if before == wanted:
        return
    stack.port = deploy.ports[wanted]
    name = {OLD: OLD_GATEWAY, NEW: "gateway"}[before]
    stack.stop(name)
    stack.start(name)
    until(lambda: is_ready(deploy.ports[before]), what=f"{name} is back", seconds=60)


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def work_on(stack: Stack, trial: Trial, load: Load, stage: Stage) -> str:
    """A burst, until every worker of the stage has had its share of it; returns the shares."""
    began = time.time()
    load.burst(trial.chance, BURST)
    names = [f"worker-{number}" for number in stage.workers]
    until(
        lambda: all(effects_since(stack, name, began) for name in names),
        what=f"{' and '.join(names)} work",
    )
    return " + ".join(str(effects_since(stack, name, began)) for name in names)


def effects_since(stack: Stack, name: str, instant: float) -> int:
    """How many effects the children of a worker have left since a Unix time."""
    main = stack.pid(name)
    counts = stack.rows(
        "SELECT by, count(*) FROM faults.effects WHERE at > to_timestamp(%s) GROUP BY by", instant
    )
    return sum(count for by, count in counts if group_of(int(by)) == main)


def group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def keys_fit_both_doors(stack: Stack, deploy: Deploy, project: str) -> None:
    """A key that one gateway makes opens the other."""
    for here, there in ((OLD, NEW), (NEW, OLD)):
        body = {"name": "side by side", "scopes": ["keys:write"]}
        made = asked(deploy.ports[here], stack.key(project), body)
        assert asked(deploy.ports[there], str(made["key"]))["data"]


def asked(port: int, key: str, body: dict[str, object] | None = None) -> dict[str, object]:
    """`POST /api/v1/keys` with a body, else `GET`; anything but 2xx raises."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/v1/keys",
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=15) as answer:
        found: dict[str, object] = json.load(answer)
    return found


def expect_no_error(stack: Stack, trial: Trial, load: Load) -> None:
    trial.expect(set(load.answers) <= {200, 201}, f"the API answered {dict(load.answers)}")
    ((dead,),) = stack.rows("SELECT count(*) FROM spine.dead_letters")
    trial.expect(dead == 0, f"{dead} dead letters")
    crashes = [line for line in stack.logs().splitlines() if "task_crashed" in line]
    trial.expect(not crashes, f"{len(crashes)} tasks crashed, for example {crashes[:1]}")
    deferred = stack.logs().count("outcome=deferred") + stack.logs().count('"deferred"')
    trial.expect(deferred == 0, f"{deferred} attempts failed")
