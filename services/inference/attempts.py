"""Getting an upstream to begin: repeated where that can help, and never past the deadline."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import cast

from services.inference.breakers import Breakers, Call
from services.inference.domain.breaker import Ending, Go, Refused, Rest
from services.inference.domain.generation import Piece, Sampling
from services.inference.domain.retry import Schedule
from services.inference.domain.routing import Served
from services.inference.ports import Upstream
from shared.errors import Invalid, Unavailable


class OpenChoice:
    """One answer under way; its first piece is there, so trying again is over."""

    def __init__(
        self,
        first: Sequence[Piece],
        rest: AsyncGenerator[Piece, None] | None = None,
        call: Call | None = None,
    ) -> None:
        self.first = first
        self.rest = rest
        self._call = call

    @property
    def is_complete(self) -> bool:
        return self.first[-1].end is not None

    async def close(self) -> None:
        """Stop the generation if it still runs."""
        if self.rest is not None:
            await self.rest.aclose()
        if self._call is not None:
            self._call.end(Ending.ABANDONED)


class Attempts:
    """Opens answers on an upstream."""

    def __init__(
        self,
        upstream: Upstream,
        schedule: Schedule,
        breakers: Breakers,
        *,
        max_running_per_model: int,
    ) -> None:
        self._upstream = upstream
        self._schedule = schedule
        self._breakers = breakers
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

    async def admit(self, model: str, deadline: float) -> Go:
        """
        Let a request through to *model*, after the rest it asked for. One `Go` is good for all
        calls that begin a choice of the request; *deadline* is on the clock of the event loop.

        Raises:
            Unavailable: It is left alone after too many failures, or rests beyond the deadline.
        """
        loop = asyncio.get_running_loop()
        while True:
            match self._breakers.admit(model):
                case Go() as go:
                    return go
                case Refused(seconds):
                    raise Unavailable(
                        f"Model '{model}' failed too often and is left alone for a moment; "
                        "repeat after Retry-After.",
                        code="model_paused",
                        retry_after=seconds,
                    )
                case Rest(seconds):
                    # Those who waited must not all come back at once.
                    wait = seconds + random.random() * self._schedule.first_seconds
                    if loop.time() + wait >= deadline:
                        raise Unavailable(
                            f"Model '{model}' asked for a pause; repeat after Retry-After.",
                            code="upstream_unavailable",
                            retry_after=seconds,
                        )
                    await asyncio.sleep(wait)

    async def open(
        self,
        served: Served,
        prompt: Sequence[int],
        sampling: Sampling,
        go: Go,
        *,
        is_streamed: bool,
        deadline: float,
    ) -> OpenChoice:
        """
        An answer with its first piece. *deadline* is on the clock of the event loop, in seconds.

        Raises:
            Invalid: The request cannot be carried out.
            Unavailable: The attempts, the budget for them or the time are used up.
        """
        failures = 0
        while True:
            call = self._breakers.begin(served.model, go, is_repetition=failures > 0)
            try:
                async with within(deadline, served.model):
                    pieces = self._upstream.generate(
                        served, prompt, sampling, is_streamed=is_streamed
                    )
                    return await _begun(_watched(pieces, call), call)
            except Unavailable as error:
                # What the model said itself has ended the call already; this is the deadline.
                call.end(Ending.LATE)
                failures += 1
                go = await self._next(served.model, failures, error, deadline)
            except Invalid:
                call.end(Ending.ANSWERED)
                raise
            except BaseException:
                call.end(Ending.ABANDONED)
                raise

    async def _next(self, model: str, failures: int, error: Unavailable, deadline: float) -> Go:
        """Wait until the call may be repeated; raises *error* when it may not."""
        pause = self._schedule.pause(
            failures,
            retry_after=error.retry_after,
            remaining=deadline - asyncio.get_running_loop().time(),
            chance=random.random(),
        )
        if pause is None or not self._breakers.may_repeat(model):
            raise error
        await asyncio.sleep(pause)
        try:
            return await self.admit(model, deadline)
        except Unavailable:
            # What went wrong says more than that it will not be tried again.
            raise error from None


async def _begun(pieces: AsyncGenerator[Piece, None], call: Call) -> OpenChoice:
    try:
        return OpenChoice([await anext(pieces)], pieces, call)
    except BaseException:
        await pieces.aclose()
        raise


async def _watched(pieces: AsyncIterator[Piece], call: Call) -> AsyncGenerator[Piece, None]:
    """The same pieces; an end or a failure among them is how the call ended."""
    try:
        async with aclosing(cast("AsyncGenerator[Piece, None]", pieces)):
            async for piece in pieces:
                if piece.end is not None:
                    call.end(Ending.ANSWERED)
                yield piece
    except Unavailable as error:
        call.end(Ending.FAILED, retry_after=error.retry_after)
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
