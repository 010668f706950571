"""Seats that projects share: who holds the fewest gets the next one."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.ids import Project

_Turns = deque[asyncio.Future[None]]


class Seats:
    """
    A semaphore that is fair to projects. For one event loop.

    A project that is alone has all seats. As soon as others wait, every seat that is left goes to
    the one of them that holds the fewest, so that they come to hold equally many, however long each
    keeps its seat. Those that hold as many take turns.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._held: Counter[Project] = Counter()
        # Whoever was given a seat last comes last.
        self._waiting: dict[Project, _Turns] = {}

    @asynccontextmanager
    async def taken(self, project: Project) -> AsyncIterator[None]:
        """Wait for a seat, and hold it until the end of the block."""
        await self._take(project)
        try:
            yield
        finally:
            self._leave(project)

    async def _take(self, project: Project) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(project, deque()).append(turn)
        self._give()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._strike(project, turn)
            else:
                # The seat was given in the moment in which nobody waited for it any more.
                self._leave(project)
            raise

    def _leave(self, project: Project) -> None:
        self._free += 1
        self._held[project] -= 1
        if not self._held[project]:
            del self._held[project]
        self._give()

    def _give(self) -> None:
        while self._free and self._waiting:
            project = min(self._waiting, key=lambda each: self._held[each])
            turns = self._waiting.pop(project)
            turn = turns.popleft()
            if turns:
                self._waiting[project] = turns
            if not turn.cancelled():
                turn.set_result(None)
                self._free -= 1
                self._held[project] += 1

    def _strike(self, project: Project, turn: asyncio.Future[None]) -> None:
        turns = self._waiting.get(project, deque())
        if turn in turns:
            turns.remove(turn)
            if not turns:
                del self._waiting[project]
