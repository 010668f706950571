"""Two gateways, of which the suite asks one at a time, as a balancer would."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass

from infra.local.processes import ProcessSpec
from tests.faults.stack import Stack
from tests.faults.watching import is_ready, until


def further_gateway(name: str, port: int, *variables: str) -> ProcessSpec:
    """A second gateway, on a port of its own, with further environment variables."""
    command = ("env", f"PERPETUNE_PORT={port}", *variables, sys.executable)
    return ProcessSpec(name, (*command, "-m", "services.gateway"), stop_seconds=15)


@dataclass(frozen=True)
class Doors:
    """
    Attributes:
        ports: Of the two, by process name.
    """

    stack: Stack
    ports: dict[str, int]

    @property
    def asked(self) -> str:
        """The one that gets the load's requests."""
        return next(name for name, port in self.ports.items() if port == self.stack.port)

    def other(self, name: str) -> str:
        return next(door for door in self.ports if door != name)

    def await_ready(self) -> None:
        for name, port in self.ports.items():
            until(lambda port=port: is_ready(port), what=f"{name} is ready", seconds=60)

    def restart(self, name: str) -> None:
        """Ask the other from now on, and have this one end in order and come back."""
        self.stack.port = self.ports[self.other(name)]
        self.stack.stop(name)
        self.stack.start(name)
        self.await_ready()


def status_of(port: int, path: str, key: str, body: dict[str, object] | None = None) -> int:
    """Status of one request: `POST` with a body, else `GET`."""
    return asked(port, path, key, body)[0]


def asked(
    port: int, path: str, key: str, body: dict[str, object] | None = None
) -> tuple[int, dict[str, object]]:
    """Status and answer of one request: `POST` with a body, else `GET`."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def metric(port: int, name: str) -> float:
    """A figure of `/metrics` without labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=15) as answer:
        lines = answer.read().decode().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))
