"""One llama.cpp process as its parent sees it: start, probe, stop."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

import httpx2

from services.serving.child import ChildSpec
from shared.errors import Unavailable

_HEALTH_INTERVAL_SECONDS = 0.05
_PROBE_TIMEOUT_SECONDS = 2.0
_KILL_AFTER_SECONDS = 2.0
_TAIL_LINES = 5


@dataclass(frozen=True)
class Activity:
    """
    What a child has done so far.

    Attributes:
        running: Requests in its slots and in its queue.
        steps: Decode steps since it started.
    """

    running: int
    steps: int


class LlamaProcess:
    """A started llama.cpp process."""

    def __init__(self, spec: ChildSpec, process: asyncio.subprocess.Process) -> None:
        self.url = spec.url
        self._process = process
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._reader = asyncio.create_task(self._read_errors())

    @classmethod
    async def start(
        cls, spec: ChildSpec, http: httpx2.AsyncClient, *, timeout_seconds: float
    ) -> LlamaProcess:
        """
        Start a process and wait until it answers its health check.

        Raises:
            Unavailable: It ended or stayed silent; the message has its last words.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.serving.child",
            spec.model_dump_json(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=child_environment(spec.threads),
            # Ctrl-C in a terminal reaches a whole group; the parent decides when children stop.
            start_new_session=True,
        )
        child = cls(spec, process)
        try:
            async with asyncio.timeout(timeout_seconds):
                await child._wait_until_healthy(spec.model, http)
        except TimeoutError:
            await child.kill()
            raise Unavailable(
                f"Model '{spec.model}' did not start within {timeout_seconds:g} s; "
                "raise PERPETUNE_SERVING_START_TIMEOUT_SECONDS on slow disks.",
                code="model_start_timeout",
                retry_after=5,
            ) from None
        except BaseException:
            await child.kill()
            raise
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    async def wait(self) -> int:
        """Wait until the process ends; its return code, negative for a signal."""
        return await self._process.wait()

    async def probe(self, http: httpx2.AsyncClient) -> Activity | None:
        """What it is doing, or None when it does not say so within two seconds."""
        try:
            answer = await http.get(f"{self.url}/metrics", timeout=_PROBE_TIMEOUT_SECONDS)
        except httpx2.HTTPError:
            return None
        return parse_activity(answer.text) if answer.is_success else None

    async def stop(self) -> None:
        """End it politely, then by force."""
        if self.is_alive:
            with suppress(ProcessLookupError):
                self._process.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _KILL_AFTER_SECONDS)
        await self.kill()

    async def kill(self) -> None:
        if self.is_alive:
            with suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()
        await self._reader

    async def _wait_until_healthy(self, model: str, http: httpx2.AsyncClient) -> None:
        while True:
            if not self.is_alive:
                await self._reader
                raise Unavailable(
                    f"Model '{model}' could not be started: "
                    f"{' | '.join(self._tail) or f'exit {self._process.returncode}'}",
                    code="model_start_failed",
                    retry_after=5,
                )
            with suppress(httpx2.HTTPError):
                answer = await http.get(f"{self.url}/health", timeout=_PROBE_TIMEOUT_SECONDS)
                if answer.is_success:
                    return
            await asyncio.sleep(_HEALTH_INTERVAL_SECONDS)

    async def _read_errors(self) -> None:
        """Keep the last lines. They are not logged: an error may quote the prompt it is about."""
        assert self._process.stderr is not None
        while line := await self._process.stderr.readline():
            self._tail.append(line.decode(errors="replace").strip())


def child_environment(threads: int) -> dict[str, str]:
    """Environment of a child: its OpenMP threads wait asleep, after spinning some microseconds."""
    return {
        **os.environ,
        "OMP_WAIT_POLICY": "passive",
        "GOMP_SPINCOUNT": "600",
        "OMP_NUM_THREADS": str(threads),
    }


def is_port_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        # As llama.cpp does: a port whose connections linger in TIME_WAIT may be taken again.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def find_free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def parse_activity(metrics: str) -> Activity:
    """Read llama.cpp's Prometheus text; a missing counter is an error of its version."""
    values = dict(
        line.rsplit(" ", 1) for line in metrics.splitlines() if line and not line.startswith("#")
    )
    return Activity(
        running=int(float(values["llamacpp:requests_processing"]))
        + int(float(values["llamacpp:requests_deferred"])),
        steps=int(float(values["llamacpp:n_decode_total"])),
    )
