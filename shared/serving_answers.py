"""What the model server answers, checked: as values, or as the error that its caller can act on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from math import inf, isfinite
from typing import Any

import httpx2
from pydantic import BaseModel, ConfigDict, HttpUrl

from shared.errors import Corrupt, Invalid, Missing, PerpetuneError, Unavailable

# What a repeat may cure although the request seems to be to blame: too late, too many.
_PASSING = frozenset({408, 429})


@dataclass(frozen=True)
class LoadedModel:
    """Where a resident model answers, and the process that does."""

    model: str
    url: str
    pid: int | None


@dataclass(frozen=True)
class TokenScores:
    """
    One entry per scored token, in order.

    Attributes:
        logprobs: Natural logarithms of the tokens' probabilities.
        greedy: Whether the token is the likeliest one there.
        top_logprobs: The likeliest tokens as (id, logprob), best first; empty unless asked for.
    """

    logprobs: tuple[float, ...]
    greedy: tuple[bool, ...]
    top_logprobs: tuple[tuple[tuple[int, float], ...], ...]


class _Body(BaseModel):
    # A newer server may say more.
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Record(_Body):
    model: str
    url: HttpUrl
    pid: int | None
    state: str


class _Top(_Body):
    token_id: int
    logprob: float


class _Row(_Body):
    logprobs: tuple[float, ...]
    greedy: tuple[bool, ...]
    top_logprobs: tuple[tuple[_Top, ...], ...]


class _Scored(_Body):
    sequences: tuple[_Row, ...]


class _Embedded(_Body):
    embeddings: list[list[float]]


def read_body(answer: httpx2.Response) -> dict[str, Any]:
    """The body of a success, or the server's error as ours."""
    if answer.is_success:
        with _reading():
            body: dict[str, Any] = answer.json()
        return body
    if answer.status_code >= 500 or answer.status_code in _PASSING:
        kind: type[PerpetuneError] = Unavailable
    else:
        kind = Missing if answer.status_code == 404 else Invalid
    message, code, param = _describe(answer)
    raise kind(message, code=code, param=param, retry_after=read_retry_after(answer))


def _describe(answer: httpx2.Response) -> tuple[str, str, str | None]:
    try:
        error = answer.json()["error"]
        return error["message"], error["code"], error["param"]
    except (ValueError, KeyError, TypeError):
        # A crash inside the server is answered by uvicorn in plain text.
        return f"The model server answered {answer.status_code}.", "serving_failed", None


def read_retry_after(answer: httpx2.Response) -> float | None:
    """Seconds that an answer asks to wait, >= 0, if it does."""
    for header, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = answer.headers.get(header, "")
        try:
            seconds = float(value) * unit
        except ValueError:
            seconds = _seconds_until(value)
        if isfinite(seconds):
            return max(0.0, seconds)
    return None


def _seconds_until(date: str) -> float:
    """Retry-After may be a date (RFC 9110, 10.2.3); what is none is for ever."""
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except (ValueError, OverflowError):
        return inf


def read_loaded(model: str, body: dict[str, Any]) -> LoadedModel:
    """
    The model that was asked for, ready.

    Raises:
        Unavailable: It is in a state in which it does not answer, or in one that is not known here;
            or the answer cannot be read.
        Corrupt: It is another model.
    """
    with _reading():
        record = _Record.model_validate(body)
    if record.model != model:
        raise Corrupt(
            f"The model server loaded '{record.model}' when it was asked for '{model}'.",
            code="model_mistaken",
        )
    if record.state != "ready":
        raise Unavailable(
            f"Model '{model}' is {record.state[:40]!r} and not ready; repeat in a moment.",
            code="model_not_ready",
            retry_after=1,
        )
    return LoadedModel(model=record.model, url=str(record.url).rstrip("/"), pid=record.pid)


def require_ready(loaded: LoadedModel, status: int | None) -> None:
    """
    Raises:
        Unavailable: The model was said to be ready, and its process does not say so.
    """
    if status != 200:
        raise Unavailable(
            f"Model '{loaded.model}' is said to be ready and does not answer ({status}); "
            "repeat in a moment.",
            code="model_not_answering",
            retry_after=1,
        )


def read_scores(body: dict[str, Any]) -> list[TokenScores]:
    with _reading():
        sequences = _Scored.model_validate(body).sequences
    return [
        TokenScores(
            logprobs=row.logprobs,
            greedy=row.greedy,
            top_logprobs=tuple(
                tuple((best.token_id, best.logprob) for best in position)
                for position in row.top_logprobs
            ),
        )
        for row in sequences
    ]


def read_embeddings(body: dict[str, Any]) -> list[list[float]]:
    with _reading():
        return _Embedded.model_validate(body).embeddings


@contextmanager
def _reading() -> Iterator[None]:
    """An answer that is none, as `Unavailable`; without its words, which may quote a prompt."""
    try:
        yield
    except ValueError as error:
        raise Unavailable(
            "The model server's answer cannot be read; look into its log.",
            code="serving_broken",
            retry_after=1,
        ) from error
