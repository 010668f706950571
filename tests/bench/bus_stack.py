"""Servers, processes, senders and gates of the bus benchmark."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import URL

from infra.local import embedded
from shared.context import Context
from shared.contracts.catalogue import CONSUMERS
from shared.db import Units, make_engine
from shared.ids import Project
from shared.settings import CoreSettings
from tests.bench.bus_worker import PLAIN_TASK, QUEUE, SPINE_TASK, BenchCommand, plain_app

DELAY_SECONDS = 0.002
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
def gates(delayed: Sequence[str], addresses: dict[str, str]) -> Iterator[dict[str, int]]:
    """Ports of the gates before the servers that are *delayed*, by server."""
    ports = {}
    with contextlib.ExitStack() as stopping:
        for server in delayed:
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
