"""One resident model: its process comes back when it dies, and drains before it leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx2

from services.serving.child import ChildSpec
from services.serving.domain import Seat, State, count_crash, restart_delay
from services.serving.process import Activity, LlamaProcess, find_free_port, is_port_free
from shared.errors import PerpetuneError, Unavailable
from shared.logging import get_logger

_log = get_logger(__name__)
_DRAIN_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Patience:
    """How long a resident waits, in seconds; the meaning is that of the settings."""

    start: float
    probe_interval: float
    hang: float


class Resident:
    """
    Owns the process of one model from `open` to `close`.

    Attributes:
        spec: What it serves; the port changes only when somebody else took it between two lives.
        restarts: How often the process died and was started again.
    """

    def __init__(
        self,
        spec: ChildSpec,
        *,
        http: httpx2.AsyncClient,
        patience: Patience,
        on_gone: Callable[[Resident], None],
    ) -> None:
        self.spec = spec
        self.is_pinned = False
        self.state = State.STARTING
        self.restarts = 0
        self.running = 0
        self.last_used = time.monotonic()
        self.process: LlamaProcess | None = None
        self.gone = asyncio.Event()
        self._http = http
        self._patience = patience
        self._on_gone = on_gone
        self._steps = 0
        self._failure: PerpetuneError | None = None
        self._changed = asyncio.Condition()
        self._life = asyncio.create_task(self._live(), name=f"resident {spec.model}")
        self._closing: asyncio.Task[None] | None = None

    @property
    def seat(self) -> Seat:
        return Seat(
            model=self.spec.model,
            is_pinned=self.is_pinned,
            is_settled=self.state in {State.READY, State.RESTARTING},
            running=self.running,
            last_used=self.last_used,
        )

    async def ready(self) -> LlamaProcess:
        """
        The process, once it answers.

        Raises:
            Unavailable: It did not start, is not back in time, or is leaving.
        """
        self.last_used = time.monotonic()
        try:
            # The first start has its own time limit; restarts go on for ever.
            await self._reach(lambda: self.state is not State.STARTING)
            async with asyncio.timeout(self._patience.start):
                await self._reach(lambda: self.state is not State.RESTARTING)
        except TimeoutError:
            raise Unavailable(
                f"Model '{self.spec.model}' keeps failing ({self.restarts} restarts); "
                "look into the log of the serving process.",
                code="model_restarting",
                retry_after=restart_delay(self.restarts) or 1,
            ) from None
        if self._failure is not None:
            raise self._failure
        if self.state is not State.READY or self.process is None:
            raise Unavailable(
                f"Model '{self.spec.model}' is being stopped.", code="model_stopping", retry_after=1
            )
        return self.process

    async def refresh(self) -> None:
        """Ask the process what it is doing now. One that is too busy to say so counts as busy."""
        process = self.process
        if process is None or self.state is State.RESTARTING:
            self.running = 0
            return
        activity = await process.probe(self._http)
        if activity is None:
            self.running = max(self.running, 1)
        else:
            self._note(activity)

    async def close(self, drain_seconds: float) -> None:
        """Let running requests finish for up to *drain_seconds*, then end the process."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._drain_and_stop(drain_seconds))
        await asyncio.shield(self._closing)

    async def _live(self) -> None:
        try:
            process = await self._start()
        except PerpetuneError as error:
            self._failure = error
            _log.warning("model_start_failed", model=self.spec.model, code=error.code)
            await self._enter(State.GONE)
            return
        crashes = 0
        while True:
            born = time.monotonic()
            await self._enter(State.READY)
            await self._watch(process)
            self.restarts += 1
            crashes = count_crash(crashes, time.monotonic() - born)
            _log.error("child_died", model=self.spec.model, pid=process.pid, crashes=crashes)
            await self._enter(State.RESTARTING)
            process, crashes = await self._restart(crashes)

    async def _restart(self, crashes: int) -> tuple[LlamaProcess, int]:
        while True:
            await asyncio.sleep(restart_delay(crashes))
            # The same port keeps the addresses that callers hold valid.
            if not is_port_free(self.spec.host, self.spec.port):
                self.spec = self.spec.model_copy(update={"port": find_free_port(self.spec.host)})
            try:
                return await self._start(), crashes
            except PerpetuneError as error:
                crashes += 1
                self.restarts += 1
                _log.error("child_restart_failed", model=self.spec.model, reason=error.message)

    async def _start(self) -> LlamaProcess:
        process = await LlamaProcess.start(
            self.spec, self._http, timeout_seconds=self._patience.start
        )
        self.process, self._steps = process, 0
        _log.info("child_started", model=self.spec.model, pid=process.pid, url=process.url)
        return process

    async def _watch(self, process: LlamaProcess) -> None:
        """Return when the process has ended; end it when it hangs."""
        end = asyncio.create_task(process.wait())
        heard = time.monotonic()
        try:
            while not end.done():
                await asyncio.wait({end}, timeout=self._patience.probe_interval)
                activity = None if end.done() else await process.probe(self._http)
                if activity is not None:
                    heard = time.monotonic()
                    self._note(activity)
                elif time.monotonic() - heard > self._patience.hang:
                    _log.error("child_hangs", model=self.spec.model, pid=process.pid)
                    await process.kill()
        finally:
            end.cancel()

    async def _drain_and_stop(self, drain_seconds: float) -> None:
        self._life.cancel()
        await asyncio.wait({self._life})
        await self._enter(State.DRAINING)
        deadline = time.monotonic() + drain_seconds
        await self.refresh()
        while self.running and time.monotonic() < deadline and self._is_alive():
            await asyncio.sleep(_DRAIN_POLL_SECONDS)
            await self.refresh()
        if self.process is not None:
            await self.process.stop()
        await self._enter(State.GONE)

    def _is_alive(self) -> bool:
        return self.process is not None and self.process.is_alive

    def _note(self, activity: Activity) -> None:
        if activity.running or activity.steps != self._steps:
            self.last_used = time.monotonic()
        self.running, self._steps = activity.running, activity.steps

    async def _reach(self, predicate: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(predicate)

    async def _enter(self, state: State) -> None:
        async with self._changed:
            self.state = state
            self._changed.notify_all()
        if state is State.GONE:
            self.gone.set()
            self._on_gone(self)
