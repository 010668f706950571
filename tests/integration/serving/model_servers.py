"""Real model servers, each on a free loopback port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2

from shared.serving_client import ServingClient

BASE = "smollm2-135m-instruct"


@dataclass(frozen=True)
class ModelServer:
    url: str
    process: subprocess.Popen[bytes]
    client: ServingClient

    def record(self, model: str) -> dict[str, object]:
        return httpx2.get(f"{self.url}/v1/models/{model}").json()

    def resident(self) -> set[str]:
        return set(httpx2.get(f"{self.url}/healthz").json()["models"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def run_server(**settings: object) -> Iterator[ModelServer]:
    port = _free_port()
    # Short contexts keep the KV caches of several children small.
    settings = {"port": port, "context_tokens": 512, "drain_seconds": 10, **settings}
    names = {f"PERPETUNE_SERVING_{name.upper()}": str(value) for name, value in settings.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "services.serving"], env={**os.environ, **names}
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(f"{url}/healthz"), seconds=20)
        with ServingClient(url) as client:
            yield ModelServer(url, process, client)
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=2).is_success
    except httpx2.HTTPError:
        return False


def wait_until(holds, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"still not so after {seconds} s"
        time.sleep(0.05)
