"""Where models answer: asked from the model server once, remembered until it proves wrong."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from services.inference.domain.routing import Served
from shared.blobs import BlobStore
from shared.serving_client import AsyncServingClient


class Residence:
    """Addresses of resident models, in memory."""

    def __init__(self, serving: AsyncServingClient, blobs: BlobStore) -> None:
        self._serving = serving
        self._blobs = blobs
        self._urls: dict[str, str] = {}
        self._loading: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def url(self, served: Served) -> str:
        """
        Where the model answers; it is loaded if it is not resident.

        Raises:
            Missing, Invalid, Unavailable: As the model server and the blob store say.
        """
        known = self._urls.get(served.model)
        if known is not None:
            return known
        # Many requests may find out at once; one of them asks.
        async with self._loading[served.model]:
            known = self._urls.get(served.model)
            return known if known is not None else await self._load(served)

    def forget(self, served: Served, url: str) -> None:
        """The model does not answer at *url* any more."""
        if self._urls.get(served.model) == url:
            del self._urls[served.model]

    async def _load(self, served: Served) -> str:
        adapter = None
        if served.gguf_digest is not None:
            path = await asyncio.to_thread(self._blobs.path, served.project, served.gguf_digest)
            adapter = str(path)
        loaded = await self._serving.load(served.model, base=served.base, adapter=adapter)
        self._urls[served.model] = loaded.url
        return loaded.url
