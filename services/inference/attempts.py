"""Getting an upstream to begin: repeated where that can help, and never past the deadline."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

from services.inference.domain.generation import Piece, Sampling
from services.inference.domain.retry import Schedule
from services.inference.domain.routing import Served
from services.inference.ports import Upstream
from shared.errors import Unavailable


class OpenChoice:
    """One answer under way; its first piece is there, so trying again is over."""

    def __init__(
        self, first: Sequence[Piece], rest: AsyncGenerator[Piece, None] | None = None
    ) -> None:
        self.first = first
        self.rest = rest

    @property
    def is_complete(self) -> bool:
        return self.first[-1].end is not None

    async def close(self) -> None:
        """Stop the generation if it still runs."""
        if self.rest is not None:
            await self.rest.aclose()


class Attempts:
    """Opens answers on an upstream."""

    def __init__(
        self, upstream: Upstream, schedule: Schedule, *, max_running_per_model: int
    ) -> None:
        self._upstream = upstream
        self._schedule = schedule
        self._limit = max_running_per_model
        self._running: Counter[str] = Counter()

    @contextmanager
    def seats(self, model: str, count: int) -> Iterator[None]:
        """
        Count *count* answers of a model while they are made.

        Raises:
            Unavailable: The model has enough to do. One request alone is always let in.
        """
        running = self._running[model]
        if running and running + count > self._limit:
            raise Unavailable(
                f"Model '{model}' is answering {running} requests already; repeat in a moment.",
                code="model_overloaded",
                retry_after=1,
            )
        self._running[model] += count
        try:
            yield
        finally:
            self._running[model] -= count

    async def open(
        self,
        served: Served,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        is_streamed: bool,
        deadline: float,
    ) -> OpenChoice:
        """
        An answer with its first piece. *deadline* is on the clock of the event loop, in seconds.

        Raises:
            Invalid: The request cannot be carried out.
            Unavailable: The attempts or the time are used up.
        """
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            try:
                async with within(deadline, served.model):
                    return await self._begin(served, prompt, sampling, is_streamed=is_streamed)
            except Unavailable as error:
                failures += 1
                pause = self._schedule.pause(
                    failures,
                    retry_after=error.retry_after,
                    remaining=deadline - loop.time(),
                    chance=random.random(),
                )
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    async def _begin(
        self, served: Served, prompt: Sequence[int], sampling: Sampling, *, is_streamed: bool
    ) -> OpenChoice:
        pieces = cast(
            "AsyncGenerator[Piece, None]",
            self._upstream.generate(served, prompt, sampling, is_streamed=is_streamed),
        )
        try:
            return OpenChoice([await anext(pieces)], pieces)
        except BaseException:
            await pieces.aclose()
            raise


class within:  # noqa: N801 - reads as a word: `async with within(deadline, model)`
    """Turns a deadline of the event loop into `Unavailable`."""

    def __init__(self, deadline: float, model: str) -> None:
        self._timeout = asyncio.timeout_at(deadline)
        self._model = model

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *raised: object) -> None:
        try:
            await self._timeout.__aexit__(*raised)  # type: ignore[arg-type]
        except TimeoutError as error:
            raise Unavailable(
                f"Model '{self._model}' did not answer in time; ask for fewer tokens, or repeat.",
                code="upstream_timeout",
                retry_after=1,
            ) from error
