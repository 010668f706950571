"""
The model server as other rooms see it: load and unload models, score tokens, embed them.

Answers are generated elsewhere: straight from the address that `load` returns. That address has a
path; append llama.cpp's routes to it (`/completion`, `/v1/chat/completions`). When it refuses the
connection or answers 404, the model has moved or left: load it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx2

from shared.errors import Invalid, Missing, PerpetuneError, Unavailable

# A load may wait for another model to drain (30 s) and then for its own start.
_LOAD_SECONDS = 120.0
# Longer than the server's own limit, so that its error arrives and not our time-out.
_SCORE_SECONDS = 330.0


@dataclass(frozen=True)
class LoadedModel:
    """Where a resident model answers, and the process that does."""

    model: str
    url: str
    pid: int


@dataclass(frozen=True)
class TokensToScore:
    """`scored[i]` asks for token i after all before it; `scored[0]` must be false."""

    token_ids: Sequence[int]
    scored: Sequence[bool]


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


@dataclass(frozen=True)
class _Call:
    method: str
    path: str
    body: dict[str, Any] | None = None
    timeout_seconds: float = _LOAD_SECONDS


class ServingClient:
    """
    Blocking client of one model server; close it or use it as a context manager.

    Every method raises Missing, Invalid or Unavailable as the server says, and Unavailable when it
    cannot be reached.
    """

    def __init__(self, base_url: str) -> None:
        self._http = httpx2.Client(base_url=base_url, trust_env=False)

    def load(
        self,
        model: str,
        *,
        base: str,
        adapter: str | None = None,
        pinned: bool | None = None,
        timeout_seconds: float = _LOAD_SECONDS,
    ) -> LoadedModel:
        """
        Make a model resident and wait until it answers; `pinned=None` leaves that as it is.

        One that is given up after *timeout_seconds* goes on in the server; a repeat finds it.
        """
        call = _load_call(model, base, adapter, pinned=pinned)
        return _loaded(self._send(replace(call, timeout_seconds=timeout_seconds)))

    def unload(self, model: str) -> None:
        """Drain and stop a model; one that is not resident is as wanted already."""
        try:
            self._send(_unload_call(model))
        except Missing:
            return

    def score(
        self,
        sequences: Sequence[TokensToScore],
        *,
        base: str,
        adapter: str | None = None,
        top_logprobs: int = 0,
        timeout_seconds: float = _SCORE_SECONDS,
    ) -> list[TokenScores]:
        """Log-probabilities of given tokens; *adapter* is a PEFT folder. One result a sequence."""
        call = _score_call(sequences, base, adapter, top_logprobs)
        return _scores(self._send(replace(call, timeout_seconds=timeout_seconds)))

    def embed(self, inputs: Sequence[Sequence[int]], *, base: str) -> list[list[float]]:
        """One vector of length 1 per input; its dimension is the base's hidden size."""
        return _embeddings(self._send(_embed_call(inputs, base)))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _send(self, call: _Call) -> dict[str, Any]:
        try:
            answer = self._http.request(
                call.method, call.path, json=call.body, timeout=call.timeout_seconds
            )
        except httpx2.HTTPError as error:
            raise _unreachable(self._http.base_url, error) from error
        return _read(answer)


class AsyncServingClient:
    """`ServingClient` for an event loop."""

    def __init__(self, base_url: str) -> None:
        self._http = httpx2.AsyncClient(base_url=base_url, trust_env=False)

    async def load(
        self, model: str, *, base: str, adapter: str | None = None, pinned: bool | None = None
    ) -> LoadedModel:
        """See `ServingClient.load`."""
        return _loaded(await self._send(_load_call(model, base, adapter, pinned=pinned)))

    async def unload(self, model: str) -> None:
        """See `ServingClient.unload`."""
        try:
            await self._send(_unload_call(model))
        except Missing:
            return

    async def score(
        self,
        sequences: Sequence[TokensToScore],
        *,
        base: str,
        adapter: str | None = None,
        top_logprobs: int = 0,
    ) -> list[TokenScores]:
        """See `ServingClient.score`."""
        return _scores(await self._send(_score_call(sequences, base, adapter, top_logprobs)))

    async def embed(self, inputs: Sequence[Sequence[int]], *, base: str) -> list[list[float]]:
        """See `ServingClient.embed`."""
        return _embeddings(await self._send(_embed_call(inputs, base)))

    async def close(self) -> None:
        await self._http.aclose()

    async def _send(self, call: _Call) -> dict[str, Any]:
        try:
            answer = await self._http.request(
                call.method, call.path, json=call.body, timeout=call.timeout_seconds
            )
        except httpx2.HTTPError as error:
            raise _unreachable(self._http.base_url, error) from error
        return _read(answer)


def _load_call(model: str, base: str, adapter: str | None, *, pinned: bool | None) -> _Call:
    body = {"model": model, "base": base, "adapter": adapter, "pinned": pinned}
    return _Call("POST", "/v1/load", body)


def _unload_call(model: str) -> _Call:
    return _Call("DELETE", f"/v1/models/{quote(model)}")


def _score_call(
    sequences: Sequence[TokensToScore], base: str, adapter: str | None, top_logprobs: int
) -> _Call:
    body = {
        "base": base,
        "adapter": adapter,
        "top_logprobs": top_logprobs,
        "sequences": [
            {"token_ids": list(sequence.token_ids), "scored": list(sequence.scored)}
            for sequence in sequences
        ],
    }
    return _Call("POST", "/v1/score", body, _SCORE_SECONDS)


def _embed_call(inputs: Sequence[Sequence[int]], base: str) -> _Call:
    return _Call("POST", "/v1/embed", {"base": base, "input": [list(ids) for ids in inputs]})


def _loaded(body: dict[str, Any]) -> LoadedModel:
    return LoadedModel(model=body["model"], url=body["url"], pid=body["pid"])


def _scores(body: dict[str, Any]) -> list[TokenScores]:
    return [
        TokenScores(
            logprobs=tuple(row["logprobs"]),
            greedy=tuple(row["greedy"]),
            top_logprobs=tuple(
                tuple((best["token_id"], best["logprob"]) for best in position)
                for position in row["top_logprobs"]
            ),
        )
        for row in body["sequences"]
    ]


def _embeddings(body: dict[str, Any]) -> list[list[float]]:
    vectors: list[list[float]] = body["embeddings"]
    return vectors


def _unreachable(base_url: httpx2.URL, error: httpx2.HTTPError) -> PerpetuneError:
    return Unavailable(
        f"The model server at {base_url} does not answer ({type(error).__name__}); "
        "look whether the process `serving` runs.",
        code="serving_unavailable",
        retry_after=1,
    )


def _read(answer: httpx2.Response) -> dict[str, Any]:
    """The body of a success, or the server's error as ours."""
    if answer.is_success:
        body: dict[str, Any] = answer.json()
        return body
    if answer.status_code >= 500:
        kind: type[PerpetuneError] = Unavailable
    else:
        kind = Missing if answer.status_code == 404 else Invalid
    message, code, param = _describe(answer)
    raise kind(message, code=code, param=param, retry_after=_retry_after(answer))


def _describe(answer: httpx2.Response) -> tuple[str, str, str | None]:
    try:
        error = answer.json()["error"]
        return error["message"], error["code"], error["param"]
    except (ValueError, KeyError, TypeError):
        # A crash inside the server is answered by uvicorn in plain text.
        return f"The model server answered {answer.status_code}.", "serving_failed", None


def _retry_after(answer: httpx2.Response) -> float | None:
    value = answer.headers.get("retry-after", "")
    return float(value) if value.isdigit() else None
