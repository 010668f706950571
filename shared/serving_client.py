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

from shared.errors import Missing, PerpetuneError, Unavailable
from shared.serving_answers import (
    LoadedModel,
    TokenScores,
    read_body,
    read_embeddings,
    read_loaded,
    read_scores,
    require_ready,
)
from shared.whole_answers import ask_within

# A load may wait for another model to drain (30 s) and then for its own start.
_LOAD_SECONDS = 120.0
# One answer of a process that has just been found well.
_PROBE_SECONDS = 10.0
# Longer than the server's own limit, so that its error arrives and not our time-out.
_SCORE_SECONDS = 330.0
# As long as the server itself waits for its embedding process.
_EMBED_SECONDS = 120.0


@dataclass(frozen=True)
class TokensToScore:
    """`scored[i]` asks for token i after all before it; `scored[0]` must be false."""

    token_ids: Sequence[int]
    scored: Sequence[bool]


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
        loaded = read_loaded(model, self._send(replace(call, timeout_seconds=timeout_seconds)))
        require_ready(loaded, self._probe(loaded))
        return loaded

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
        return read_scores(self._send(replace(call, timeout_seconds=timeout_seconds)))

    def embed(
        self,
        inputs: Sequence[Sequence[int]],
        *,
        base: str,
        timeout_seconds: float = _EMBED_SECONDS,
    ) -> list[list[float]]:
        """One vector of length 1 per input; its dimension is the base's hidden size."""
        call = replace(_embed_call(inputs, base), timeout_seconds=timeout_seconds)
        return read_embeddings(self._send(call))

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
            answer = ask_within(
                self._http, call.method, call.path, body=call.body, seconds=call.timeout_seconds
            )
        except httpx2.HTTPError as error:
            raise _unreachable(self._http.base_url, error) from error
        return read_body(answer)

    def _probe(self, loaded: LoadedModel) -> int | None:
        try:
            return self._http.get(f"{loaded.url}/health", timeout=_PROBE_SECONDS).status_code
        except httpx2.HTTPError:
            return None


class AsyncServingClient:
    """`ServingClient` for an event loop."""

    def __init__(self, base_url: str) -> None:
        self._http = httpx2.AsyncClient(base_url=base_url, trust_env=False)

    async def load(
        self, model: str, *, base: str, adapter: str | None = None, pinned: bool | None = None
    ) -> LoadedModel:
        """See `ServingClient.load`."""
        call = _load_call(model, base, adapter, pinned=pinned)
        loaded = read_loaded(model, await self._send(call))
        require_ready(loaded, await self._probe(loaded))
        return loaded

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
        return read_scores(await self._send(_score_call(sequences, base, adapter, top_logprobs)))

    async def embed(self, inputs: Sequence[Sequence[int]], *, base: str) -> list[list[float]]:
        """See `ServingClient.embed`."""
        return read_embeddings(await self._send(_embed_call(inputs, base)))

    async def close(self) -> None:
        await self._http.aclose()

    async def _send(self, call: _Call) -> dict[str, Any]:
        try:
            answer = await self._http.request(
                call.method, call.path, json=call.body, timeout=call.timeout_seconds
            )
        except httpx2.HTTPError as error:
            raise _unreachable(self._http.base_url, error) from error
        return read_body(answer)

    async def _probe(self, loaded: LoadedModel) -> int | None:
        try:
            answer = await self._http.get(f"{loaded.url}/health", timeout=_PROBE_SECONDS)
        except httpx2.HTTPError:
            return None
        return answer.status_code


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
    body = {"base": base, "input": [list(ids) for ids in inputs]}
    return _Call("POST", "/v1/embed", body, _EMBED_SECONDS)


def _unreachable(base_url: httpx2.URL, error: httpx2.HTTPError) -> PerpetuneError:
    return Unavailable(
        f"The model server at {base_url} does not answer ({type(error).__name__}); "
        "look whether the process `serving` runs.",
        code="serving_unavailable",
        retry_after=1,
    )
