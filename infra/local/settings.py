"""Settings of the local stack: where its state lies and which loopback ports it takes."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le

from shared.errors import Conflict
from shared.settings import BaseServiceSettings

LOOPBACK = "127.0.0.1"

Port = Annotated[int, Ge(1), Le(65_535)]

# Settings with a port, one for each server.
_PORTS = ("port", "postgres_port", "bus_port", "cache_port", "serving_port")


class LocalSettings(BaseServiceSettings):
    """Where the local stack lives on this machine."""

    home: Path = Path(".perpetune")
    port: Port = 8700
    postgres_port: Port = 8705
    bus_port: Port = 8706
    cache_port: Port = 8707
    serving_port: Port = 8711

    # Loading the base model for the first time takes longest.
    ready_timeout_seconds: Annotated[float, Ge(1), Le(600)] = 120.0

    @property
    def gateway_url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def ports(self) -> dict[str, int]:
        """Every port the stack listens on, by the environment variable that sets it."""
        return {f"PERPETUNE_{name}".upper(): getattr(self, name) for name in _PORTS}


def refuse_taken_ports(settings: LocalSettings) -> None:
    """
    Look at every port before anything is started.

    Raises:
        Conflict: Two settings name one port, or a port is in use; the message names the setting.
    """
    seen: dict[int, str] = {}
    for variable, port in settings.ports().items():
        if port in seen:
            raise Conflict(
                f"{variable} and {seen[port]} both name port {port}; give one of them another.",
                code="port_named_twice",
            )
        seen[port] = variable
        if not is_free(port):
            raise Conflict(
                f"Port {port} on {LOOPBACK} is in use. Stop the program that uses it, or set "
                f"{variable} to a free port.",
                code="port_in_use",
            )


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do: connections that are still closing do not hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A loopback port nobody listens on at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def free_ports() -> dict[str, int]:
    """Such a port for each server of a stack, by its setting; all of them different."""
    found: dict[str, int] = {}
    while len(found) < len(_PORTS):
        port = free_port()
        # One that was free a moment ago may be offered again.
        if port not in found.values():
            found[_PORTS[len(found)]] = port
    return found
