"""Reading what llama.cpp answers, checked like a stranger's input: a child may be sick."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Literal

import httpx2
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from services.inference.domain.generation import Alternative, End, Piece, TokenProbability


class _Body(BaseModel):
    # Newer versions of llama.cpp may say more; a number is not a text, and "true" is not true.
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class _Token(_Body):
    token: str
    bytes: tuple[int, ...]
    logprob: float


class _Position(_Token):
    top_logprobs: tuple[_Token, ...]


class _Timings(_Body):
    cache_n: int = 0


class _Words(_Body):
    """A part of an answer; `tokens_predicted` counts the tokens up to its end."""

    content: str
    stop: Literal[False]
    tokens_predicted: int | None = None
    completion_probabilities: tuple[_Position, ...] = ()


class _Last(_Body):
    """The end of an answer, and all of it where it is not streamed."""

    content: str
    stop: Literal[True]
    stop_type: Literal["eos", "word", "limit"]
    tokens_evaluated: int
    tokens_predicted: int
    timings: _Timings = _Timings()
    completion_probabilities: tuple[_Position, ...] = ()


_EVENT: TypeAdapter[_Words | _Last] = TypeAdapter(
    Annotated[_Words | _Last, Field(discriminator="stop")]
)


async def read_answer(
    response: httpx2.Response, top_logprobs: int, *, is_streamed: bool
) -> AsyncGenerator[Piece, None]:
    """
    The pieces of an answer; the last one has an end.

    Raises:
        httpx2.HTTPError: The answer broke off, ended too early or cannot be read.
    """
    if is_streamed:
        async with aclosing(_events(response.aiter_lines())) as events:
            async for event in events:
                yield _piece(event, top_logprobs)
        return
    whole = _read(await response.aread())
    if not isinstance(whole, _Last):
        raise httpx2.RemoteProtocolError("an answer without an end")
    yield _piece(whole, top_logprobs)


def read_piece(text: str | bytes, top_logprobs: int) -> Piece:
    """
    A piece from a body or an event of `/completion`, with so many alternatives per token.

    Raises:
        httpx2.RemoteProtocolError: It is none.
    """
    return _piece(_read(text), top_logprobs)


async def _events(lines: AsyncIterator[str]) -> AsyncGenerator[_Words | _Last, None]:
    """Each event once, the end last."""
    heard: dict[int, _Words] = {}
    has_ended = False
    async for line in lines:
        # What follows the end is read, so that the connection can be used again, and ignored.
        if has_ended or not line or line.startswith(":"):
            continue
        event = _read(line.removeprefix("data: "))
        has_ended = isinstance(event, _Last)
        if isinstance(event, _Last) or _is_new(event, heard):
            yield event
    if not has_ended:
        raise httpx2.RemoteProtocolError("the stream ended before the answer did")


def _is_new(words: _Words, heard: dict[int, _Words]) -> bool:
    """Every event has a token of its own, which tells a repeated one from one like it."""
    position = words.tokens_predicted
    if position is None:
        return True
    if position > next(reversed(heard), 0):
        heard[position] = words
        return True
    if heard.get(position) != words:
        raise httpx2.RemoteProtocolError("an event out of order")
    return False


def _read(text: str | bytes) -> _Words | _Last:
    try:
        return _EVENT.validate_json(text)
    except ValidationError as error:
        # Without its message, which quotes the answer.
        raise httpx2.RemoteProtocolError("an answer that cannot be read") from error


def _piece(event: _Words | _Last, top_logprobs: int) -> Piece:
    probabilities = tuple(
        _probability(each, top_logprobs) for each in event.completion_probabilities
    )
    return Piece(event.content, probabilities, _end(event) if isinstance(event, _Last) else None)


def _end(event: _Last) -> End:
    return End(
        finish="length" if event.stop_type == "limit" else "stop",
        input_tokens=event.tokens_evaluated,
        output_tokens=event.tokens_predicted,
        cached_tokens=event.timings.cache_n,
    )


def _probability(entry: _Position, top_logprobs: int) -> TokenProbability:
    return TokenProbability(
        text=entry.token,
        raw=entry.bytes,
        logprob=entry.logprob,
        alternatives=tuple(
            Alternative(other.token, other.bytes, other.logprob)
            for other in entry.top_logprobs[:top_logprobs]
        ),
    )
