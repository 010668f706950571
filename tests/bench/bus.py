"""
Commands per second from emit to effect: the spine beside plain Celery, in one run.

`python -m tests.bench.bus [--commands 1500] [--rounds 3] [--processes 1 4] [--paths loopback redis
both] [--durable] [--json]`

Three arms on the same Postgres and Valkey take turns: deliveries of the spine; a task of Celery
with the spine's broker settings; a task of Celery with Celery's own settings. The effect is the
same line in the same file. Two senders emit as fast as they can while the workers run; those of
the spine commit a row with `uow.emit`, as rooms do. Latency is measured apart, at twenty commands a
second, from the sender's commit to the effect.

A path is what lies between the processes and the servers: nothing, 2 ms each way to Redis, or
that to both. On the first the spine is held to 0.5 of the arm with the same broker settings, on
the second to 0.8; the exit status says whether it holds.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import URL, make_url

from infra import database as databases
from infra.local import embedded
from shared.context import Context
from shared.contracts.catalogue import CONSUMERS
from shared.db import Units, make_engine
from shared.ids import Project, uuid7
from shared.settings import CoreSettings
from tests.bench.bus_worker import PLAIN_TASK, QUEUE, SPINE_TASK, BenchCommand, plain_app

ARMS = ("spine", "plain", "default")
# What is delayed on a path, and the least share of the plain arm the spine has to reach there.
PATHS: dict[str, tuple[tuple[str, ...], float | None]] = {
    "loopback": ((), 0.5),
    "redis": (("bus",), 0.8),
    "both": (("bus", "database"), None),
}
DELAY_SECONDS = 0.002
SENDERS = 2
WARM_UP = 20
LATENCY_COMMANDS = 100
LATENCY_PAUSE_SECONDS = 0.05
PATIENCE_SECONDS = 120.0
ROOT = Path(__file__).parents[2]
PASSWORD = "perpetune-bench"

Send = Callable[[str], None]


@dataclass(frozen=True)
class Stack:
    """Servers of one run, and the file of the effects."""

    settings: CoreSettings
    effects: Path

    def environment(self) -> dict[str, str]:
        ours = {
            f"PERPETUNE_{name.upper()}": str(getattr(self.settings, name))
            for name in self.settings.model_fields_set
        }
        return {
            **os.environ,
            **ours,
            "PYTHONPATH": str(ROOT),
            "BENCH_EFFECTS": str(self.effects),
        }

    def seen(self) -> dict[str, float]:
        """When each number had its first effect."""
        found: dict[str, float] = {}
        for line in self.effects.read_text().splitlines():
            number, _, at = line.partition(" ")
            found.setdefault(number, float(at))
        return found


@dataclass(frozen=True)
class Result:
    """One arm on one path with so many worker processes."""

    path: str
    arm: str
    processes: int
    per_second: float
    p50_ms: float
    p99_ms: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--paths", nargs="+", choices=PATHS, default=list(PATHS))
    parser.add_argument(
        "--durable", action="store_true", help="Postgres writes to disk before it answers"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = []
    with servers(is_durable=options.durable) as addresses:
        for path, processes in itertools.product(options.paths, options.processes):
            rounds: dict[str, list[Result]] = {arm: [] for arm in ARMS}
            for _ in range(options.rounds):
                for arm in ARMS:
                    result = measure(path, arm, processes, options.commands, addresses)
                    rounds[arm].append(result)
                    print(result, file=sys.stderr)
            results += [median_of(rounds[arm]) for arm in ARMS]
    if options.json:
        print(json.dumps([vars(result) for result in results]))
    else:
        print(f"Postgres with fsync and synchronous_commit {'on' if options.durable else 'off'}")
        show(results)
    return int(not all(holds(results, result) for result in results))


def measure(
    path: str, arm: str, processes: int, commands: int, addresses: dict[str, str]
) -> Result:
    """One arm on a database and a key prefix of its own."""
    name = f"bench_{uuid7().hex}"
    owner = make_url(addresses["database"]).set(database=name)
    direct = owner.render_as_string(hide_password=False)
    databases.prepare(direct, dict.fromkeys(databases.ROLES, PASSWORD))
    with tempfile.TemporaryDirectory() as folder, gates(path, addresses) as ports:
        effects = Path(folder) / "effects"
        effects.touch()
        reached = owner.set(port=ports.get("database", owner.port))
        settings = CoreSettings(
            database_app_url=with_role(reached, "app"),
            database_spine_url=with_role(reached, "spine"),
            bus_url=with_port(addresses["bus"], ports.get("bus")),
            broker_prefix=f"{name}:",
            worker_children=processes,
            worker_soft_shutdown_seconds=0.1,
        )
        stack = Stack(settings, effects)
        with running(stack, arm, processes), sender(stack, arm) as send:
            warm_up = new_numbers(WARM_UP)
            emit(send, warm_up)
            await_effects(stack, warm_up)
            numbers = new_numbers(commands)
            began = time.monotonic()
            emit(send, numbers)
            seconds = max(await_effects(stack, numbers).values()) - began
            waits = latencies(stack, send)
    databases.drop_database(direct)
    cuts = statistics.quantiles(waits, n=100)
    return Result(path, arm, processes, commands / seconds, cuts[49] * 1000, cuts[98] * 1000)


def new_numbers(count: int) -> list[str]:
    """In the form of a delivery's id: workers hear nothing else."""
    return [str(uuid7()) for _ in range(count)]


def emit(send: Send, numbers: list[str]) -> None:
    """Send from SENDERS threads."""

    def send_all(part: list[str]) -> None:
        for number in part:
            send(number)

    threads = [
        threading.Thread(target=send_all, args=(numbers[i::SENDERS],)) for i in range(SENDERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def latencies(stack: Stack, send: Send) -> list[float]:
    """Seconds from commit to effect of single commands, with nothing else under way."""
    sent = {}
    for number in new_numbers(LATENCY_COMMANDS):
        send(number)
        sent[number] = time.monotonic()
        time.sleep(LATENCY_PAUSE_SECONDS)
    seen = await_effects(stack, list(sent))
    return [max(0.0, seen[number] - at) for number, at in sent.items()]


def await_effects(stack: Stack, numbers: list[str]) -> dict[str, float]:
    """
    Times of all effects.

    Raises:
        TimeoutError: Some did not come.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        seen = stack.seen()
        if all(number in seen for number in numbers):
            return {number: seen[number] for number in numbers}
        time.sleep(0.05)
    missing = sum(number not in seen for number in numbers)
    raise TimeoutError(f"{missing} of {len(numbers)} effects did not come")


@contextlib.contextmanager
def sender(stack: Stack, arm: str) -> Iterator[Send]:
    """What emits one command: a committed row, or a published task."""
    if arm != "spine":
        app = plain_app(arm, stack.settings)

        def publish(number: str) -> None:
            app.send_task(PLAIN_TASK, args=[number], queue=QUEUE)

        yield publish
        return
    CONSUMERS[BenchCommand] = (SPINE_TASK,)
    units = Units(make_engine(stack.settings.database_app_url, stack.settings))
    context = Context.root(Project("bench"), "bench")

    def send(number: str) -> None:
        with units.open(context) as uow:
            uow.emit(BenchCommand(number=number))

    yield send
    units.engine.dispose()


@contextlib.contextmanager
def running(stack: Stack, arm: str, processes: int) -> Iterator[None]:
    """The worker, and for the spine its delivery process."""
    commands = [[sys.executable, "-m", "tests.bench.bus_worker", arm, str(processes)]]
    if arm == "spine":
        commands.append([sys.executable, "-m", "services.delivery"])
    with contextlib.ExitStack() as stopping:
        for command in commands:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=stack.environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            stopping.callback(process.wait)
            stopping.callback(os.killpg, process.pid, signal.SIGKILL)
        yield


@contextlib.contextmanager
def servers(*, is_durable: bool) -> Iterator[dict[str, str]]:
    """Addresses of a private Postgres and a private Valkey."""
    with (
        embedded.private_postgres(is_durable=is_durable) as postgres,
        embedded.private_valkey("bus") as valkey,
    ):
        yield {"database": postgres.url, "bus": valkey.url}


@contextlib.contextmanager
def gates(path: str, addresses: dict[str, str]) -> Iterator[dict[str, int]]:
    """Ports of the gates on *path*, by the server behind."""
    ports = {}
    with contextlib.ExitStack() as stopping:
        for server in PATHS[path][0]:
            port = urlsplit(addresses[server]).port
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.bench.bus_gate", str(port), str(DELAY_SECONDS)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
            )
            stopping.callback(process.wait)
            stopping.callback(process.kill)
            assert process.stdout
            stopping.callback(process.stdout.close)
            ports[server] = int(process.stdout.readline())
        yield ports


def with_role(owner: URL, role: str) -> str:
    return owner.set(username=role, password=PASSWORD).render_as_string(hide_password=False)


def with_port(url: str, port: int | None) -> str:
    parts = urlsplit(url)
    return url if port is None else url.replace(f":{parts.port}", f":{port}")


def median_of(results: list[Result]) -> Result:
    first = results[0]
    return Result(
        first.path,
        first.arm,
        first.processes,
        *(
            statistics.median(getattr(result, name) for result in results)
            for name in ("per_second", "p50_ms", "p99_ms")
        ),
    )


def share_of(results: list[Result], other: Result) -> float | None:
    """How much of *other* the spine reaches under the same conditions."""
    (ours,) = (
        result
        for result in results
        if (result.path, result.arm, result.processes) == (other.path, "spine", other.processes)
    )
    return None if other is ours else ours.per_second / other.per_second


def holds(results: list[Result], result: Result) -> bool:
    """Whether the spine reaches what it is held to beside *result*."""
    share, least = share_of(results, result), PATHS[result.path][1]
    return result.arm != "plain" or share is None or least is None or share >= least


def show(results: list[Result]) -> None:
    """A table with the spine's share of every other arm."""
    print(
        f"{'path':<8} {'processes':>9} {'arm':<8} {'per second':>10} {'p50 ms':>7} {'p99 ms':>7} "
        f"{'spine is':>8}"
    )
    for result in results:
        share = share_of(results, result)
        verdict = "" if holds(results, result) else f", below {PATHS[result.path][1]}"
        print(
            f"{result.path:<8} {result.processes:>9} {result.arm:<8} {result.per_second:>10.0f} "
            f"{result.p50_ms:>7.1f} {result.p99_ms:>7.1f} "
            f"{'' if share is None else f'{share:8.2f}{verdict}'}"
        )


if __name__ == "__main__":
    sys.exit(main())
