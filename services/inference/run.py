"""One request from its assignment to its record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field

from services.inference.attempts import Attempts, OpenChoice, within
from services.inference.domain.breaker import Go
from services.inference.domain.generation import End, Piece
from services.inference.domain.routing import Served, Target
from services.inference.jobs import Job
from services.inference.ports import Scoring
from shared.errors import PerpetuneError, Unavailable
from shared.rendering.bases import find_base
from shared.rendering.tokenizer import decode

Numbered = tuple[int, Piece]


@dataclass
class Run:
    """
    Generates the choices of a job, on the assigned model or on its fallback.

    Attributes:
        served: The model that answers.
        is_fallback: Whether that is not the one the request was assigned to.
        ends: How each choice ended, by its index.
    """

    job: Job
    target: Target
    attempts: Attempts
    scoring: Scoring
    deadline: float
    attempt_deadline: float
    served: Served = field(init=False)
    is_fallback: bool = False
    ends: dict[int, End] = field(default_factory=dict)
    _choices: list[OpenChoice] = field(default_factory=list)
    _held: AsyncExitStack = field(default_factory=AsyncExitStack)

    def __post_init__(self) -> None:
        self.served = self.target.served

    async def open(self) -> None:
        """
        Wait until every choice has begun.

        Raises:
            Invalid: The request cannot be carried out.
            Unavailable: Neither the model nor its fallback answered.
        """
        fallback = self.target.fallback
        if fallback is None:
            await self._open_on(self.deadline)
            return
        try:
            await self._open_on(min(self.deadline, self.attempt_deadline))
        except Unavailable:
            self.served, self.is_fallback = fallback, True
            await self._open_on(self.deadline)

    async def pieces(self) -> AsyncIterator[Numbered]:
        """
        All pieces of all choices, each choice's in order.

        Raises:
            Unavailable: A choice broke off, or the time is up.
        """
        for index, choice in enumerate(self._choices):
            for piece in choice.first:
                yield self._seen(index, piece)
        async for index, piece in self._rest():
            yield self._seen(index, piece)

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call *callback* when this run is closed."""
        self._held.callback(callback)

    async def close(self) -> None:
        """Stop what still runs and give the seats back; may be called again."""
        await self._held.aclose()

    def _seen(self, index: int, piece: Piece) -> Numbered:
        if piece.end is not None:
            self.ends[index] = piece.end
        return index, piece

    async def _open_on(self, deadline: float) -> None:
        base = find_base(self.served.base)
        if base is None:
            raise Unavailable(
                f"The base '{self.served.base}' is not installed here.", code="base_missing"
            )
        prompts = self.job.prompting.tokens(base)
        count = len(prompts) * self.job.choices
        # A model that does not begin gets its seats back before another one is asked.
        with ExitStack() as seats:
            seats.enter_context(self.attempts.seats(self.served.model, count))
            self._choices = await self._begin(prompts, deadline)
            self._held.push(seats.pop_all())
        for choice in self._choices:
            self._held.push_async_callback(choice.close)

    async def _begin(self, prompts: Sequence[list[int]], deadline: float) -> list[OpenChoice]:
        each = self.job.choices
        async with within(deadline, self.served.model):
            prefixes = [await self._prefix(prompt) for prompt in prompts]
        if self.job.sampling.max_tokens == 0:
            choices = [_empty(prompt) for prompt in prompts for _ in range(each)]
        else:
            go = await self.attempts.admit(self.served.model, deadline)
            choices = await _all_open(
                [
                    self._open_choice(index, prompts[index // each], go, deadline)
                    for index in range(len(prompts) * each)
                ]
            )
        for index, choice in enumerate(choices):
            choice.first = [*prefixes[index // each], *choice.first]
        return choices

    async def _open_choice(
        self, index: int, prompt: Sequence[int], go: Go, deadline: float
    ) -> OpenChoice:
        return await self.attempts.open(
            self.served,
            prompt,
            self.job.sampling.for_choice(index),
            go,
            is_streamed=self.job.is_streamed,
            deadline=deadline,
        )

    async def _prefix(self, prompt: Sequence[int]) -> list[Piece]:
        if not self.job.echoes:
            return []
        base = find_base(self.served.base)
        assert base is not None
        top = self.job.sampling.top_logprobs
        if top is None:
            return [Piece(decode(base, prompt))]
        scores = await self.scoring.score(self.served, prompt, top_logprobs=top)
        return [Piece(decode(base, prompt), scores)]

    async def _rest(self) -> AsyncIterator[Numbered]:
        queue: asyncio.Queue[Numbered | PerpetuneError] = asyncio.Queue()
        open_choices = [
            (index, choice) for index, choice in enumerate(self._choices) if not choice.is_complete
        ]
        for index, choice in open_choices:
            task = asyncio.create_task(_pump(index, choice, queue))
            # Last in, first out: a generator must not be closed while its task is inside it.
            self._held.push_async_callback(_end, task)
        unfinished = len(open_choices)
        while unfinished:
            async with within(self.deadline, self.served.model):
                item = await queue.get()
            if isinstance(item, PerpetuneError):
                raise item
            unfinished -= item[1].end is not None
            yield item


def _empty(prompt: Sequence[int]) -> OpenChoice:
    """Nothing was asked for beyond the prompt."""
    return OpenChoice([Piece("", end=End("length", len(prompt), 0))])


async def _pump(
    index: int, choice: OpenChoice, queue: asyncio.Queue[Numbered | PerpetuneError]
) -> None:
    assert choice.rest is not None
    try:
        async for piece in choice.rest:
            queue.put_nowait((index, piece))
    except PerpetuneError as error:
        queue.put_nowait(error)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def _all_open(openings: Sequence[Coroutine[None, None, OpenChoice]]) -> list[OpenChoice]:
    """All choices, or none: when one fails, the others are stopped."""
    if len(openings) == 1:
        return [await openings[0]]
    tasks = [asyncio.create_task(opening) for opening in openings]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        for done in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(done, OpenChoice):
                await done.close()
        raise
