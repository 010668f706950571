"""The local stack as one thing: started in order, watched, stopped in order."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType

import psycopg
import redis
from sqlalchemy import URL, make_url

from infra import database
from infra.local import postgres, processes, valkey
from infra.local.home import Home
from infra.local.settings import LocalSettings, refuse_taken_ports
from infra.local.supervisor import ProcessState, Supervisor
from shared.errors import Unavailable

Progress = Callable[[str], None]

_SERVERS_TIMEOUT_SECONDS = 30.0
# The slowest service and then the slowest server may take 30 s each before they are killed.
_STOP_TIMEOUT_SECONDS = 75.0
_POLL_SECONDS = 0.1
# What was started more recently than this, long after everything was, keeps dying.
_STEADY_SECONDS = 3


class Stack:
    """Postgres, bus, cache and all our processes on this machine."""

    def __init__(self, settings: LocalSettings) -> None:
        self.settings = settings
        self.home = Home.at(settings.home)
        self._supervisor = Supervisor(self.home)

    @property
    def is_ours(self) -> bool:
        """Whether this object started the stack; one that was found running is left running."""
        return self._supervisor.is_ours

    def start(self, on_progress: Progress, *, fresh: bool = False) -> None:
        """
        Start everything and return when the gateway is ready; a running stack is used as it is.

        Args:
            on_progress: Called with a short sentence as each part begins.
            fresh: Stop a running stack of this home and wipe its state first.

        Raises:
            Conflict: A port is in use, or the data belongs to another version of Postgres.
            Unavailable: A part did not become ready; the message names its log. What was started
                is stopped again.
        """
        if fresh:
            self.stop()
            self.home.wipe()
        if self._supervisor.answers():
            on_progress("Using the stack that is running")
            self._await_gateway()
            return
        refuse_taken_ports(self.settings)
        try:
            self._start(on_progress)
        except BaseException:
            # Also on Ctrl-C: half a stack is of no use and would hold the ports.
            self.stop()
            raise

    def stop(self) -> None:
        """Stop every process of this home, services first; nothing happens when none runs."""
        self._supervisor.stop(timeout_seconds=_STOP_TIMEOUT_SECONDS)

    def status(self) -> list[ProcessState]:
        """All processes of this home; none when the stack is down."""
        return self._supervisor.states()

    @contextlib.contextmanager
    def running(self, on_progress: Progress, *, fresh: bool = False) -> Iterator[Stack]:
        """
        The stack for the length of a block; stopped at its end if this call started it.

        A closed terminal and SIGTERM end the block as Ctrl-C does, so that nothing is left behind.
        """
        with _signals_interrupt(signal.SIGTERM, signal.SIGHUP):
            self.start(on_progress, fresh=fresh)
            try:
                yield self
            finally:
                if self.is_ours:
                    on_progress("Stopping")
                    self.stop()

    def wait(self) -> None:
        """Block until somebody else stops the stack; Ctrl-C raises KeyboardInterrupt."""
        while self._supervisor.answers():
            time.sleep(1)

    def _start(self, on_progress: Progress) -> None:
        on_progress("Preparing Postgres")
        self.home.create()
        postgres.prepare_cluster(self.home.postgres, self.home.secret("postgres_password"))
        on_progress("Starting Postgres, bus and cache")
        self._supervisor.start(
            [*processes.servers(self.settings, self.home), *processes.services()],
            processes.environment(self.settings, self.home),
        )
        self._await_servers()
        on_progress("Migrating the database")
        database.prepare(
            processes.owner_url(self.settings, self.home),
            {role: self.home.secret(f"{role}_password") for role in database.ROLES},
        )
        on_progress("Making sure of the first API key")
        self._ensure_first_key()
        on_progress("Starting the services")
        self._supervisor.start_group("services")
        self._await_gateway()

    def _ensure_first_key(self) -> None:
        made = subprocess.run(
            [sys.executable, "-m", "services.gateway.first_key"],
            env=os.environ | processes.environment(self.settings, self.home),
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise Unavailable(
                f"The first API key could not be made: {made.stderr.strip().splitlines()[-1]}",
                code="first_key_failed",
            )

    def _await_servers(self) -> None:
        owner = make_url(processes.owner_url(self.settings, self.home))
        address = owner.set(drivername="postgresql", database="postgres")
        self._await("postgres", _SERVERS_TIMEOUT_SECONDS, partial(_connects, address))
        for server, port in (("bus", self.settings.bus_port), ("cache", self.settings.cache_port)):
            url = valkey.url(port, self.home.secret(f"{server}_password"))
            self._await(server, _SERVERS_TIMEOUT_SECONDS, partial(_pings, url))

    def _await_gateway(self) -> None:
        url = f"{self.settings.gateway_url}/readyz"
        self._await("gateway", self.settings.ready_timeout_seconds, partial(_is_ready, url))

    def _await(self, name: str, timeout_seconds: float, is_ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + timeout_seconds
        while not is_ready():
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"'{name}' was not ready after {timeout_seconds:.0f} s. The logs are in "
                    f"{self.home.logs}.{self._troubles()}",
                    code="stack_not_ready",
                )
            time.sleep(_POLL_SECONDS)

    def _troubles(self) -> str:
        """Which processes do not stay up, with the last line each of them wrote."""
        lines = [
            f"\n  {state.name} does not stay up, saying last: {_last_line(self.home, state.name)}"
            for state in self.status()
            if state.state != "RUNNING" or state.seconds < _STEADY_SECONDS
        ]
        return "".join(lines)


def _last_line(home: Home, name: str) -> str:
    log = home.logs / f"{name}.log"
    lines = log.read_text(errors="replace").split("\n") if log.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it wrote nothing")


def _connects(address: URL) -> bool:
    try:
        psycopg.connect(
            address.render_as_string(hide_password=False),
            connect_timeout=2,
        ).close()
    except psycopg.OperationalError:
        return False
    return True


def _pings(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=2, socket_timeout=2) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own loopback URL
            return bool(answer.status == 200)
    except OSError:
        return False


@contextlib.contextmanager
def _signals_interrupt(*signals: signal.Signals) -> Iterator[None]:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
