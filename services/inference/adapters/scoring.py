"""Scores and vectors from the model server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from services.inference.domain.generation import Alternative, TokenProbability
from services.inference.domain.routing import Served
from shared.adapter_folders import AdapterFolders
from shared.blobs import BlobStore
from shared.rendering.bases import BaseModel, find_base
from shared.rendering.tokenizer import decode
from shared.serving_client import AsyncServingClient, TokensToScore


class ServingScoring:
    """`ports.Scoring` by the torch process and the embedding process of the model server."""

    def __init__(
        self, serving: AsyncServingClient, blobs: BlobStore, folders: AdapterFolders
    ) -> None:
        """
        Args:
            serving: The model server.
            blobs: Where adapters are, as tars.
            folders: Where they are unpacked, for torch wants a folder.
        """
        self._serving = serving
        self._blobs = blobs
        self._folders = folders

    async def score(
        self, served: Served, token_ids: Sequence[int], *, top_logprobs: int
    ) -> tuple[TokenProbability, ...]:
        """See `ports.Scoring`."""
        base = find_base(served.base)
        assert base is not None
        first = _token(base, token_ids[0], None, ())
        if len(token_ids) == 1:
            return (first,)
        adapter = await asyncio.to_thread(self._unpacked, served)
        wanted = TokensToScore(token_ids, [False] + [True] * (len(token_ids) - 1))
        (scores,) = await self._serving.score(
            [wanted],
            base=served.base,
            adapter=None if adapter is None else str(adapter),
            top_logprobs=top_logprobs,
        )
        tops = scores.top_logprobs or ((),) * len(scores.logprobs)
        return first, *(
            _token(base, token, logprob, top)
            for token, logprob, top in zip(token_ids[1:], scores.logprobs, tops, strict=True)
        )

    async def embed(self, served: Served, inputs: Sequence[Sequence[int]]) -> list[list[float]]:
        """See `ports.Scoring`."""
        return await self._serving.embed(inputs, base=served.base)

    def _unpacked(self, served: Served) -> Path | None:
        if served.peft_digest is None:
            return None
        archive = self._blobs.path(served.project, served.peft_digest)
        return self._folders.unpack(served.project, served.peft_digest, archive)


def _token(
    base: BaseModel, token_id: int, logprob: float | None, top: Sequence[tuple[int, float]]
) -> TokenProbability:
    text = decode(base, [token_id])
    alternatives = [
        Alternative(other, tuple(other.encode()), value)
        for other, value in ((decode(base, [number]), value) for number, value in top)
    ]
    return TokenProbability(text, tuple(text.encode()), logprob, tuple(alternatives))
