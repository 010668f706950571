"""A part that starts at its first use and stops when nobody has used it for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar


class Part(Protocol):
    @property
    def is_alive(self) -> bool: ...

    async def stop(self) -> None: ...


P = TypeVar("P", bound=Part)


class OnDemand(Generic[P]):
    """Holds at most one running part; one that died is replaced at the next use."""

    def __init__(self, start: Callable[[], Awaitable[P]], *, idle_seconds: float) -> None:
        self._start = start
        self._idle_seconds = idle_seconds
        self._part: P | None = None
        self._users = 0
        self._changing = asyncio.Lock()
        self._timer: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def use(self) -> AsyncIterator[P]:
        """The running part; it is not stopped for idleness inside this block."""
        # Counted before waiting for the start, so that the timer of an earlier use spares it.
        self._users += 1
        try:
            yield await self._running()
        finally:
            self._users -= 1
            if self._users == 0:
                self._rewind()

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._stop()

    async def _running(self) -> P:
        async with self._changing:
            if self._part is None or not self._part.is_alive:
                self._part = await self._start()
            return self._part

    def _rewind(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.create_task(self._stop_when_idle())

    async def _stop_when_idle(self) -> None:
        await asyncio.sleep(self._idle_seconds)
        if self._users == 0:
            await self._stop()

    async def _stop(self) -> None:
        async with self._changing:
            if self._part is not None:
                await self._part.stop()
                self._part = None
