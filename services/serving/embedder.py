"""Embeddings of token sequences, by a llama.cpp process in embedding mode per base."""

from __future__ import annotations

import os
from collections.abc import Sequence

import httpx2

from services.serving.child import ChildSpec
from services.serving.domain import route_prefix
from services.serving.on_demand import OnDemand
from services.serving.process import LlamaProcess, find_free_port
from services.serving.residency import require_base
from services.serving.settings import ServingSettings
from shared.errors import Invalid, Unavailable

_TIMEOUT_SECONDS = 120.0


class Embedder:
    """Mean-pooled last hidden states of a base, L2-normalised."""

    def __init__(self, settings: ServingSettings, http: httpx2.AsyncClient) -> None:
        self._settings = settings
        self._http = http
        self._processes: dict[str, OnDemand[LlamaProcess]] = {}

    async def embed(self, base: str, inputs: Sequence[Sequence[int]]) -> list[list[float]]:
        """
        One vector per input, of the base's hidden size and length 1.

        Raises:
            Missing: The base is unknown.
            Invalid: An input is longer than the embedding context, or has an unknown token.
            Unavailable: The process did not start or did not answer.
        """
        self._check(inputs)
        async with self._process(base).use() as process:
            try:
                answer = await self._http.post(
                    f"{process.url}/v1/embeddings",
                    json={"input": inputs},
                    timeout=_TIMEOUT_SECONDS,
                )
            except httpx2.HTTPError as error:
                raise Unavailable(
                    "The embedding process did not answer; repeat the request.",
                    code="embedding_unavailable",
                    retry_after=1,
                ) from error
        body = answer.json()
        if not answer.is_success:
            raise Invalid(body["error"]["message"], code="embedding_refused", param="input")
        return [row["embedding"] for row in sorted(body["data"], key=lambda row: row["index"])]

    async def close(self) -> None:
        for process in self._processes.values():
            await process.close()

    def _check(self, inputs: Sequence[Sequence[int]]) -> None:
        limit = self._settings.embedding_context_tokens
        for number, token_ids in enumerate(inputs):
            if len(token_ids) > limit:
                raise Invalid(
                    f"Input {number} has {len(token_ids)} tokens; at most {limit} are embedded "
                    "(PERPETUNE_SERVING_EMBEDDING_CONTEXT_TOKENS).",
                    code="context_length_exceeded",
                    param=f"input[{number}]",
                )

    def _process(self, base: str) -> OnDemand[LlamaProcess]:
        weights = str(require_base(base).gguf_path)
        if base not in self._processes:
            self._processes[base] = OnDemand(
                lambda: self._start(base, weights), idle_seconds=self._settings.idle_stop_seconds
            )
        return self._processes[base]

    async def _start(self, base: str, weights: str) -> LlamaProcess:
        model = f"{base}:embedding"
        spec = ChildSpec(
            parent_pid=os.getpid(),
            model=model,
            base=base,
            gguf_path=weights,
            adapter=None,
            host=self._settings.host,
            advertised_host=self._settings.advertised_host,
            port=find_free_port(self._settings.host),
            prefix=route_prefix(model, base, None),
            slots=self._settings.embedding_slots,
            context_tokens=self._settings.embedding_context_tokens,
            threads=self._settings.threads,
            is_embedding=True,
        )
        return await LlamaProcess.start(
            spec, self._http, timeout_seconds=self._settings.start_timeout_seconds
        )
