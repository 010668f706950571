"""
Commands per second from emit to effect: the spine beside plain Celery, in one run.

`python -m tests.bench.bus [--commands 1500] [--rounds 3] [--processes 1 4] [--json]`

Three arms on the same Postgres and Valkey take turns: deliveries of the spine; a task of Celery
with the spine's broker settings; a task of Celery with Celery's own settings. The effect is the
same line in the same file. Two senders emit as fast as they can while the workers run.
Latency is measured apart, at twenty commands a second, from the sender's commit to the effect.
"""

from __future__ import annotations

import argparse
import contextlib
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

from sqlalchemy import make_url, text

from infra import database as databases
from infra.local import embedded
from shared.context import Context
from shared.contracts.envelope import Envelope
from shared.contracts.workloads import WorkloadCreated
from shared.db import Units, make_engine
from shared.ids import Project, uuid7
from shared.settings import CoreSettings
from tests.bench.bus_worker import PLAIN_TASK, QUEUE, SPINE_TASK, plain_app

ARMS = ("spine", "plain", "default")
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
    """One arm with so many worker processes."""

    arm: str
    processes: int
    per_second: float
    p50_ms: float
    p99_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = []
    with servers() as (database_url, bus_url):
        for processes in options.processes:
            rounds: dict[str, list[Result]] = {arm: [] for arm in ARMS}
            for _ in range(options.rounds):
                for arm in ARMS:
                    rounds[arm].append(
                        measure(arm, processes, options.commands, database_url, bus_url)
                    )
                    print(rounds[arm][-1], file=sys.stderr)
            results += [median_of(rounds[arm]) for arm in ARMS]
    if options.json:
        print(json.dumps([vars(result) for result in results]))
    else:
        show(results)


def measure(arm: str, processes: int, commands: int, database_url: str, bus_url: str) -> Result:
    """One arm on a database and a key prefix of its own."""
    name = f"bench_{uuid7().hex}"
    owner = make_url(database_url).set(database=name).render_as_string(hide_password=False)
    databases.prepare(owner, dict.fromkeys(databases.ROLES, PASSWORD))
    with tempfile.TemporaryDirectory() as folder:
        effects = Path(folder) / "effects"
        effects.touch()
        settings = CoreSettings(
            database_app_url=with_role(owner, "app"),
            database_spine_url=with_role(owner, "spine"),
            bus_url=bus_url,
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
    databases.drop_database(owner)
    cuts = statistics.quantiles(waits, n=100)
    return Result(arm, processes, commands / seconds, cuts[49] * 1000, cuts[98] * 1000)


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
    units = Units(make_engine(stack.settings.database_app_url, stack.settings))
    context = Context.root(Project("bench"), "bench")

    def send(number: str) -> None:
        message = WorkloadCreated(workload_id=number, name="bench", base_model="none")
        with units.open(context) as uow:
            uow.session.execute(
                text("""
                    INSERT INTO spine.deliveries (id, project, queue, task, envelope)
                    VALUES (:id, :project, :queue, :task, CAST(:envelope AS jsonb))
                """),
                {
                    "id": str(uuid7()),
                    "project": context.project,
                    "queue": QUEUE,
                    "task": SPINE_TASK,
                    "envelope": Envelope.seal(message, context, uow.now).model_dump_json(),
                },
            )

    yield send


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
def servers() -> Iterator[tuple[str, str]]:
    """Addresses of a private Postgres and a private Valkey."""
    with embedded.private_postgres() as postgres, embedded.private_valkey("bus") as valkey:
        yield postgres.url, valkey.url


def with_role(owner: str, role: str) -> str:
    url = make_url(owner).set(username=role, password=PASSWORD)
    return url.render_as_string(hide_password=False)


def median_of(results: list[Result]) -> Result:
    return Result(
        results[0].arm,
        results[0].processes,
        *(
            statistics.median(getattr(result, name) for result in results)
            for name in ("per_second", "p50_ms", "p99_ms")
        ),
    )


def show(results: list[Result]) -> None:
    """A table with the ratios that the spine is held to."""
    print(
        f"{'processes':>9} {'arm':<8} {'per second':>10} {'p50 ms':>7} {'p99 ms':>7} {'ratio':>6}"
    )
    for result in results:
        (ours,) = (r for r in results if (r.arm, r.processes) == ("spine", result.processes))
        ratio = f"{ours.per_second / result.per_second:.2f}" if result.arm != "spine" else ""
        print(
            f"{result.processes:>9} {result.arm:<8} {result.per_second:>10.0f} "
            f"{result.p50_ms:>7.1f} {result.p99_ms:>7.1f} {ratio:>6}"
        )


if __name__ == "__main__":
    main()
