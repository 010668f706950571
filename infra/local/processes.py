"""The processes of the local stack: what is started, with which priority, and how it is stopped."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

from infra.local import postgres, valkey
from infra.local.home import Home
from infra.local.settings import LOOPBACK, LocalSettings

Group = Literal["servers", "services"]


@dataclass(frozen=True)
class ProcessSpec:
    """
    One supervised process.

    Attributes:
        name: Also the name of its log file.
        command: Foreground command line.
        group: Servers start first and stop last.
        stop_seconds: How long it may take to stop before it is killed.
        stop_signal: What asks it to stop.
        nice: 0 is ordinary, 19 runs only when nobody else wants to.
    """

    name: str
    command: tuple[str, ...]
    group: Group = "services"
    stop_seconds: int = 10
    stop_signal: Literal["TERM", "INT"] = "TERM"
    nice: int = 0

    @property
    def command_line(self) -> tuple[str, ...]:
        return ("nice", "-n", str(self.nice), *self.command) if self.nice else self.command


def servers(settings: LocalSettings, home: Home) -> tuple[ProcessSpec, ...]:
    """Postgres and the two Valkeys; writes the configuration that carries their passwords."""
    return (
        ProcessSpec(
            name="postgres",
            command=tuple(postgres.command(home.postgres, settings.postgres_port)),
            group="servers",
            # INT is a fast shutdown: sessions are ended, then a checkpoint is written.
            stop_signal="INT",
            stop_seconds=30,
        ),
        _valkey("bus", settings.bus_port, home),
        _valkey("cache", settings.cache_port, home),
    )


def services() -> tuple[ProcessSpec, ...]:
    """Our own processes."""
    return (
        _python("gateway", "services.gateway"),
        # A task may take 20 s and the soft shutdown waits 2 s on top.
        _python("worker", "shared.worker", stop_seconds=30),
        _python("door", "services.inference.door"),
        _python("delivery", "services.delivery"),
        # Training uses every core it gets; answering comes first.
        _python("trainer", "services.finetuning.trainer", nice=10, stop_seconds=20),
        _python("serving", "services.serving"),
    )


def environment(settings: LocalSettings, home: Home) -> dict[str, str]:
    """What our processes read; see `shared.settings`."""

    def database(role: str) -> str:
        return postgres.dsn(
            settings.postgres_port, "perpetune", role=role, password=home.secret(f"{role}_password")
        )

    return {
        "PERPETUNE_HOME": str(home.root),
        "PERPETUNE_PORT": str(settings.port),
        "PERPETUNE_DATABASE_APP_URL": database("app"),
        "PERPETUNE_DATABASE_SPINE_URL": database("spine"),
        "PERPETUNE_BUS_URL": valkey.url(settings.bus_port, home.secret("bus_password")),
        "PERPETUNE_CACHE_URL": valkey.url(settings.cache_port, home.secret("cache_password")),
        "PERPETUNE_BLOBS_URL": str(home.blobs),
        "PERPETUNE_SERVING_PORT": str(settings.serving_port),
        "PERPETUNE_SERVING_URL": f"http://{LOOPBACK}:{settings.serving_port}",
        "PERPETUNE_SECRETS_DIR": str(home.secrets),
    }


def owner_url(settings: LocalSettings, home: Home) -> str:
    return postgres.dsn(
        settings.postgres_port, "perpetune", password=home.secret("postgres_password")
    )


def _valkey(server: valkey.Server, port: int, home: Home) -> ProcessSpec:
    configuration = valkey.write_configuration(
        server,
        home.run / f"{server}.conf",
        port=port,
        data=home.data(server),
        password=home.secret(f"{server}_password"),
    )
    return ProcessSpec(name=server, command=tuple(valkey.command(configuration)), group="servers")


def _python(name: str, module: str, *, stop_seconds: int = 10, nice: int = 0) -> ProcessSpec:
    return ProcessSpec(
        name=name,
        command=(sys.executable, "-m", module),
        stop_seconds=stop_seconds,
        nice=nice,
    )
