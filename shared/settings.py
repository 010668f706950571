"""Settings: one frozen class per service, read once at start.

A variable with our prefix that no class knows is reported by `unknown_variables`, because a
setting without effect is an error of the operator.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import Missing
from shared.rotation import RotatingSecret


class BaseServiceSettings(BaseSettings):
    """Base of all settings classes: prefix PERPETUNE_, frozen, unknown arguments refused."""

    model_config = SettingsConfigDict(
        env_prefix="PERPETUNE_", frozen=True, extra="forbid", env_ignore_empty=True
    )


class CoreSettings(BaseServiceSettings):
    """What every process needs to reach its surroundings."""

    home: Path = Path(".perpetune")
    # Two login roles: `app` lives under row-level security; `spine` rings and copies snapshots.
    database_app_url: str = "postgresql+psycopg://app@127.0.0.1:8705/perpetune"
    database_spine_url: str = "postgresql+psycopg://spine@127.0.0.1:8705/perpetune"
    bus_url: str = "redis://127.0.0.1:8706/0"
    cache_url: str = "redis://127.0.0.1:8707/0"
    blobs_url: str = ".perpetune/blobs"
    serving_url: str = "http://127.0.0.1:8711"
    secrets_dir: Path = Path(".perpetune/secrets")
    broker_prefix: str = "perpetune:local:"

    # A pool per process; budget them against max_connections (100 in Postgres by default).
    database_pool_connections: Annotated[int, Ge(1), Le(50)] = 5
    statement_timeout_milliseconds: Annotated[int, Ge(100), Le(60_000)] = 15_000
    lock_timeout_milliseconds: Annotated[int, Ge(100), Le(60_000)] = 4_000
    # A connection is given up so long after the statement timeout: behind a proxy that swallows
    # bytes TCP looks alive, and the server's own timeout is never heard of.
    answer_grace_milliseconds: Annotated[int, Ge(100), Le(60_000)] = 5_000
    # A peer that acknowledges nothing for so long is gone: its host died, or the network is cut.
    database_silence_seconds: Annotated[int, Ge(3), Le(600)] = 20
    # Connecting takes a round trip or two; libpq knows whole seconds, and no fewer than two.
    database_connect_seconds: Annotated[int, Ge(2), Le(60)] = 5
    # Waiting for a free connection of the pool; then the caller hears that we are busy.
    database_pool_seconds: Annotated[float, Ge(0.1), Le(60)] = 10.0
    # A frozen or cut-off process holds its locks for so long; longer than a task may take.
    idle_transaction_milliseconds: Annotated[int, Ge(100), Le(600_000)] = 30_000

    # One message class (see shared/broker.py): visibility must exceed the hard limit three times.
    task_hard_limit_seconds: Annotated[int, Ge(1), Le(60)] = 20
    task_soft_limit_seconds: Annotated[int, Ge(1), Le(60)] = 15
    visibility_timeout_seconds: Annotated[int, Ge(3), Le(3600)] = 90
    worker_soft_shutdown_seconds: Annotated[float, Ge(0), Le(600)] = 2.0
    worker_children: Annotated[int, Ge(1), Le(64)] = 2

    # A frozen bus, or a firewall that drops in silence, is an error after this long and no hang.
    # Workers block for a second on purpose, so an answer has to be given more time than that.
    bus_timeout_seconds: Annotated[float, Ge(2), Le(60)] = 10.0
    bus_connect_timeout_seconds: Annotated[float, Ge(0.5), Le(60)] = 5.0
    # A worker that waits for a ringing hears nothing of a connection that was cut meanwhile; it
    # makes a new one after a second and twice this.
    bus_health_seconds: Annotated[int, Ge(1), Le(300)] = 25

    # An unfinished delivery is rung again so long after its ringing or, if that is later, its
    # recorded start. Above the hard limit, none is begun or buried while it runs; below, what
    # calls out for longer than this is begun beside itself.
    ring_again_seconds: Annotated[float, Ge(0.5), Le(600)] = 30.0
    ring_window: Annotated[int, Ge(1), Le(10_000)] = 64
    delivery_poll_milliseconds: Annotated[int, Ge(5), Le(5_000)] = 50
    delivery_attempts: Annotated[int, Ge(1), Le(50)] = 8

    lease_seconds: Annotated[float, Ge(1), Le(3600)] = 60.0
    snapshot_milliseconds: Annotated[int, Ge(20), Le(10_000)] = 500

    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="after")
    def _message_class_is_consistent(self) -> CoreSettings:
        if self.visibility_timeout_seconds < 3 * self.task_hard_limit_seconds:
            raise ValueError(
                "visibility_timeout_seconds must be at least 3 x task_hard_limit_seconds: "
                "a shorter one hands a running task to a second worker"
            )
        if self.task_soft_limit_seconds >= self.task_hard_limit_seconds:
            raise ValueError("task_soft_limit_seconds must be below task_hard_limit_seconds")
        if self.idle_transaction_milliseconds < 1000 * self.task_hard_limit_seconds:
            raise ValueError(
                "idle_transaction_milliseconds must be at least task_hard_limit_seconds: "
                "a shorter one ends the transaction of a task that is still allowed to run"
            )
        return self

    @property
    def answer_seconds(self) -> float:
        """How long Postgres is waited for before its connection is given up."""
        return (self.statement_timeout_milliseconds + self.answer_grace_milliseconds) / 1000

    def secret(self, name: str) -> SecretStr:
        """
        A secret from the environment (`PERPETUNE_SECRET_<NAME>`) or from `secrets_dir/<name>`.

        Raises:
            Missing: Neither exists; the message names both places.
        """
        value = os.environ.get(f"PERPETUNE_SECRET_{name.upper()}")
        if value:
            return SecretStr(value)
        path = self.secrets_dir / name
        if path.is_file():
            return SecretStr(path.read_text(encoding="utf-8").strip())
        raise self._without(name)

    def rotating_secret(self, name: str) -> RotatingSecret:
        """
        As `secret`, for one that we verify with: several values, and replaced while we run.

        From the environment it is one value, which stays.

        Raises:
            Missing: See `secret`; or the file is empty.
            Invalid: A line of the file is no value.
        """
        value = os.environ.get(f"PERPETUNE_SECRET_{name.upper()}")
        if value:
            return RotatingSecret.fixed(value, name)
        path = self.secrets_dir / name
        if path.is_file():
            return RotatingSecret.at(path)
        raise self._without(name)

    def _without(self, name: str) -> Missing:
        return Missing(
            f"Secret '{name}' is not set: write it to {self.secrets_dir / name} (mode 0600) "
            f"or set PERPETUNE_SECRET_{name.upper()}.",
            code="secret_missing",
        )


def unknown_variables(classes: list[type[BaseServiceSettings]]) -> list[str]:
    """Environment variables with our prefix that no field of *classes* reads, sorted."""
    known = {
        f"{cls.model_config.get('env_prefix', '')}{field}".upper()
        for cls in classes
        for field in cls.model_fields
    }
    return sorted(
        name
        for name in os.environ
        if name.startswith("PERPETUNE_")
        and not name.startswith("PERPETUNE_SECRET_")
        and name.upper() not in known
    )
