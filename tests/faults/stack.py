"""The processes of one fault module, real and supervised, on servers that may be killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
import redis
from psycopg import sql
from sqlalchemy import Engine, create_engine, make_url

from infra.local.embedded import EmbeddedServer
from infra.local.home import Home
from infra.local.supervisor import ProcessState, Supervisor
from shared.db import Units, make_engine
from shared.errors import Unavailable
from shared.ids import uuid7
from shared.rotation import RotatingSecret
from shared.settings import CoreSettings
from shared.spine.deliveries import queue_of
from shared.testing.gate import Gate
from tests.faults.layout import Layout
from tests.faults.orders import Shop
from tests.faults.watching import children, group_of, is_in_stage, is_ready, until
from tests.keys import make_key

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0

# Held while the bus is full, far more than our processes ever keep in it.
_BALLAST_BYTES = 16_000_000

_UNFINISHED = """
    SELECT task, id::text, rings, starts, rung_at::text, due_at::text, last_error
    FROM spine.deliveries ORDER BY seq LIMIT 20
"""


@dataclass
class Stack:
    """
    A running layout.

    Attributes:
        postgres: The server itself, past any gate.
        bus_server: As *postgres*.
        postgres_gate: None without gates.
        bus_gate: As *postgres_gate*.
        shop: Takes the orders of phased work.
        settings: As our processes have them; the test's own senders use them too.
    """

    layout: Layout
    home: Home
    postgres: EmbeddedServer
    bus_server: EmbeddedServer
    postgres_gate: Gate | None
    bus_gate: Gate | None
    shop: Shop
    port: int
    settings: CoreSettings
    owner_url: str
    supervisor: Supervisor
    _keys: dict[str, str] = field(default_factory=dict)
    _secrets: dict[str, RotatingSecret] = field(default_factory=dict)

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @cached_property
    def app(self) -> Units:
        """Units of work as a client of ours has them, through the gate if there is one."""
        return Units(make_engine(self.settings.database_app_url, self.settings))

    @cached_property
    def _owner(self) -> Engine:
        """Connections that are kept, since a new one for each look costs as much as the load."""
        return create_engine(
            self.owner_url,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 5, "autocommit": True, "prepare_threshold": None},
        )

    @cached_property
    def bus(self) -> redis.Redis:
        """The bus, past the gate."""
        return redis.Redis.from_url(self.bus_server.url, socket_timeout=10)

    def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """As the owner of everything, past the gate; for looking, and for forging."""
        connection = self._owner.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute(statement, parameters)
            return list(cursor.fetchall()) if cursor.description is not None else []
        finally:
            connection.close()

    def key(self, project: str) -> str:
        """An API key of *project* with all scopes, made on first use."""
        if project not in self._keys:
            pepper = self.secret("api_key_pepper")
            self._keys[project] = make_key(self.app, project, pepper)
        return self._keys[project]

    def plant(self, project: str, task: str, envelope: object, *, starts: int = 0) -> str:
        """One due delivery with whatever envelope, behind the back of the code; its id."""
        delivery = str(uuid7())
        self.rows(
            "INSERT INTO spine.deliveries (id, project, queue, task, envelope, starts) "
            "VALUES (%s, %s, %s, %s, %s, %s)",
            delivery,
            project,
            queue_of(task),
            task,
            json.dumps(envelope),
            starts,
        )
        return delivery

    def secret(self, name: str) -> str:
        """The value in use of a rotating one, seen when one of our processes would see it."""
        if name not in self._secrets:
            self._secrets[name] = RotatingSecret.at(self.home.secrets / name)
        return self._secrets[name].values.current

    # Processes.

    def names(self, role: str) -> list[str]:
        """Processes of one role, for example `worker`."""
        return [state.name for state in self.states() if state.name.split("-")[0] == role]

    def states(self) -> list[ProcessState]:
        return self.supervisor.states()

    def pid(self, name: str) -> int:
        """Process id of *name*, as soon as it runs."""

        def running() -> int:
            return next((s.pid for s in self.states() if s.name == name and s.pid), 0)

        return until(running, what=f"{name} runs")

    def signal(self, name: str, number: signal.Signals) -> None:
        """To the main process alone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid(name), number)

    def signal_group(self, name: str, number: signal.Signals) -> None:
        """To the process and all its children; the supervisor brings back what it ended."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid(name), number)

    def kill(self, name: str) -> None:
        self.signal_group(name, signal.SIGKILL)

    @contextlib.contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Stopped in the middle of whatever it does, children too, for the length of a block."""
        pid = self.pid(name)
        os.killpg(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGCONT)

    def family(self, name: str) -> list[int]:
        """Process ids of *name* and its children."""
        main = self.pid(name)
        return [main, *children(main)]

    def await_stage(self, names: Sequence[str], wanted: str) -> str:
        """The first of *names* that is, itself or a child, in the middle of a `probes.stage`."""

        def found() -> str | None:
            pids = {state.name: state.pid for state in self.states() if state.pid}
            return next((name for name in names if is_in_stage(pids.get(name), wanted)), None)

        return until(found, what=f"one of {names} is {wanted}", seconds=60, pause=0.002) or ""

    @contextlib.contextmanager
    def frozen_while(self, names: Sequence[str], wanted: str) -> Iterator[str]:
        """As `frozen`, one of *names*, surely within a stage of its work."""
        with contextlib.ExitStack() as ice:

            def caught() -> str | None:
                name = self.await_stage(names, wanted)
                ice.enter_context(self.frozen(name))
                if is_in_stage(self.pid(name), wanted):
                    return name
                ice.close()
                return None

            yield until(caught, what=f"one of {names} is frozen while {wanted}", pause=0) or ""

    def stop(self, name: str) -> None:
        """Have the supervisor end it in order, and leave it ended."""
        with self.supervisor._remote() as remote:
            remote.stopProcess(f"services:{name}")

    def start(self, name: str) -> None:
        with self.supervisor._remote() as remote:
            remote.startProcess(f"services:{name}", False)

    def exits(self, role: str) -> int:
        """How many main processes of *role* have ended so far without being asked to."""
        log = (self.home.logs / "supervisor.log").read_text(errors="replace")
        return len(re.findall(rf"exited: {role}-\d+ \(", log))

    def have_worked(self, role: str, since: float) -> bool:
        """Whether every process of *role*, or a child of each, has left an effect after a time."""
        rows = self.rows(
            "SELECT DISTINCT by FROM faults.effects WHERE at > to_timestamp(%s)", since
        )
        return {self.pid(name) for name in self.names(role)} <= {
            group_of(int(by)) for (by,) in rows
        }

    def logs(self) -> str:
        """All that was ever logged, what was put aside for its length included."""
        return "\n".join(path.read_text(errors="replace") for path in self.home.logs.glob("*.log*"))

    def log(self, name: str) -> str:
        return (self.home.logs / f"{name}.log").read_text(errors="replace")

    def last_words(self) -> str:
        """The end of every log and what is unfinished, for whoever reads a failure."""
        ends = [
            f"== {path.stem}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-15:])
            for path in sorted(self.home.logs.glob("*.log"))
        ]
        with contextlib.suppress(psycopg.Error):
            ends += ["== unfinished", *map(str, self.rows(_UNFINISHED))]
        return "\n".join(ends)

    def close(self) -> None:
        """Let go of the connections of whoever looks and sends."""
        self.app.engine.dispose()
        self._owner.dispose()

    # Servers.

    def restart_postgres(self, *, down_seconds: float) -> None:
        """Kill the server, leave it down, start it on the same data."""
        _restart(self.postgres, down_seconds)

    def restart_bus(self, *, down_seconds: float, wipe: bool = False) -> None:
        """As `restart_postgres`; with *wipe* its log is gone, as that of a bus without one."""
        _restart(self.bus_server, down_seconds, self._wipe_bus if wipe else lambda: None)

    @contextlib.contextmanager
    def frozen_bus(self) -> Iterator[None]:
        """The server stopped in the middle of whatever it does, for the length of a block."""
        self.bus_server.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.bus_server.process.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Somebody else's session holds *table*, for the length of a block."""
        address = make_url(self.owner_url).set(drivername="postgresql")
        with psycopg.connect(address.render_as_string(hide_password=False)) as session:
            name = sql.Identifier(*table.split("."))
            session.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(name))
            yield

    @contextlib.contextmanager
    def full_bus(self) -> Iterator[None]:
        """No room for another byte, for the length of a block."""
        ballast, limit = "ballast", self.bus.config_get("maxmemory")["maxmemory"]
        self.bus.set(ballast, bytes(_BALLAST_BYTES))
        try:
            # What workers free meanwhile is less than the ballast, so there never is room.
            self.bus.config_set("maxmemory", self.bus.info("memory")["used_memory"] // 2)
            yield
        finally:
            self.bus.config_set("maxmemory", limit)
            self.bus.delete(ballast)

    def _wipe_bus(self) -> None:
        for file in self.bus_server.log.parent.rglob("*.aof*"):
            file.unlink(missing_ok=True)

    def memory_bytes(self) -> dict[str, int]:
        """What each process and its children keep in memory, by name."""
        groups: dict[int, int] = {}
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                group = os.getpgid(int(folder.name))
                pages = int((folder / "statm").read_text().split()[1])
                groups[group] = groups.get(group, 0) + pages * os.sysconf("SC_PAGE_SIZE")
        return {state.name: groups.get(state.pid, 0) for state in self.states() if state.pid}

    def await_ready(self) -> None:
        """Until the gateway and every worker answer."""
        if self.layout.has_gateway:
            until(lambda: is_ready(self.port), what="the gateway is ready", seconds=START_SECONDS)
        for role in ("worker", "delivery", "holder", "plain"):
            for name in self.names(role):
                self.pid(name)


def _restart(
    server: EmbeddedServer, down_seconds: float, while_down: Callable[[], None] = lambda: None
) -> None:
    server.kill()
    while_down()
    time.sleep(down_seconds)

    def is_back() -> bool:
        # Of a killed Postgres some backends outlive it for a moment, and it waits for none.
        try:
            server.restart()
        except Unavailable:
            server.kill()
            return False
        return True

    until(is_back, what="the server is back", seconds=30, pause=0.2)
