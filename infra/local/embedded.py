"""Private servers for tests: a Postgres and a Valkey of their own on free loopback ports."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis
from sqlalchemy import make_url

from infra.local import postgres, valkey
from infra.local.settings import free_port
from shared.errors import Unavailable

_START_SECONDS = 20.0
# Between asking for a free port and taking it, somebody else may have been faster.
_PORT_ATTEMPTS = 3

# A test server is thrown away, so nothing it writes has to survive the machine.
_THROWAWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass
class EmbeddedServer:
    """
    A running private server.

    Attributes:
        url: SQLAlchemy address of the owner's database `postgres`, or a Redis URL.
        command: The command line it was started with.
        log: What it writes.
        process: Known by its id, so that a test may kill and restart it.
    """

    url: str
    command: Sequence[str]
    log: Path
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """Start it again on the same port and data after `kill`."""
        self.process = _spawn(self.command, self.log)
        _await_answer(self)


@contextlib.contextmanager
def private_postgres(*, is_durable: bool = False) -> Iterator[EmbeddedServer]:
    """
    A Postgres in a temporary folder; gone with everything in it at the end of the block.

    Args:
        is_durable: Write to disk before answering, as servers in earnest do; for measurements.
    """
    password = secrets.token_hex(16)
    with _folder() as folder:
        # A server that runs as another user must be able to walk through.
        folder.chmod(0o711)
        data = folder / "data"
        postgres.prepare_cluster(data, password)

        def command(port: int) -> list[str]:
            return postgres.command(data, port, **({} if is_durable else _THROWAWAY))

        def url(port: int) -> str:
            return postgres.dsn(port, "postgres", password=password)

        with _running(command, url, folder / "log", signal.SIGINT) as server:
            yield server


@contextlib.contextmanager
def private_valkey(server: valkey.Server = "bus") -> Iterator[EmbeddedServer]:
    """A Valkey with the configuration of the bus or the cache, in a temporary folder."""
    password = secrets.token_hex(16)
    with _folder() as folder:

        def command(port: int) -> list[str]:
            file = folder / "valkey.conf"
            valkey.write_configuration(server, file, port=port, data=folder, password=password)
            return valkey.command(file)

        def url(port: int) -> str:
            return valkey.url(port, password)

        with _running(command, url, folder / "log", signal.SIGTERM) as running:
            yield running


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    # Not pytest's temporary folder: its parents are closed to the user Postgres may have to run as.
    folder = Path(tempfile.mkdtemp(prefix="perpetune-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _running(
    command: Callable[[int], list[str]],
    url: Callable[[int], str],
    log: Path,
    stop_signal: signal.Signals,
) -> Iterator[EmbeddedServer]:
    server = _started(command, url, log)
    try:
        yield server
    finally:
        server.process.send_signal(stop_signal)
        try:
            server.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()


def _started(
    command: Callable[[int], list[str]], url: Callable[[int], str], log: Path
) -> EmbeddedServer:
    for attempt in range(1, _PORT_ATTEMPTS + 1):
        port = free_port()
        line = command(port)
        server = EmbeddedServer(url(port), line, log, _spawn(line, log))
        try:
            _await_answer(server)
        except Unavailable:
            server.kill()
            if attempt == _PORT_ATTEMPTS:
                raise
        else:
            return server
    raise AssertionError


def _spawn(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        # A session of its own: Ctrl-C in the terminal is answered by the fixture, in order.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )


def _await_answer(server: EmbeddedServer) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(server.url):
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise Unavailable(
                f"{server.command[0]} did not start: {server.log.read_text()[-600:].strip()}",
                code="embedded_server_failed",
            )
        time.sleep(0.02)


def _answers(url: str) -> bool:
    try:
        if url.startswith("redis"):
            with redis.Redis.from_url(url, socket_timeout=2) as client:
                return bool(client.ping())
        address = make_url(url).set(drivername="postgresql")
        psycopg.connect(address.render_as_string(hide_password=False), connect_timeout=2).close()
    except (OSError, redis.RedisError, psycopg.OperationalError):
        return False
    return True
