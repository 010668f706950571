"""Where models answer: asked from the model server once, remembered until it proves wrong."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from services.inference.domain.routing import Served
from shared.blobs import BlobStore
from shared.serving_client import AsyncServingClient


@dataclass(slots=True)
class _Load:
    """A load under way, and how many wait for it."""

    task: asyncio.Task[str]
    waiting: int = 0


class Residence:
    """Addresses of resident models, in memory."""

    def __init__(self, serving: AsyncServingClient, blobs: BlobStore) -> None:
        self._serving = serving
        self._blobs = blobs
        self._urls: dict[str, str] = {}
        self._loads: dict[str, _Load] = {}

    async def url(self, served: Served) -> str:
        """
        Where the model answers; it is loaded if it is not resident.

        Raises:
            Missing, Invalid, Unavailable: As the model server and the blob store say.
        """
        known = self._urls.get(served.model)
        if known is not None:
            return known
        # Many requests may find out at once: one load for all, and its end is the end of all.
        load = self._loads.get(served.model)
        if load is None:
            load = self._loads[served.model] = _Load(asyncio.create_task(self._load(served)))
        load.waiting += 1
        try:
            return await asyncio.shield(load.task)
        finally:
            load.waiting -= 1
            if load.task.done() or not load.waiting:
                self._leave(served.model, load)

    def forget(self, served: Served, url: str) -> None:
        """The model does not answer at *url* any more."""
        if self._urls.get(served.model) == url:
            del self._urls[served.model]

    def _leave(self, model: str, load: _Load) -> None:
        """Nobody joins this load any more; one that nobody waits for may hang, so it ends."""
        if self._loads.get(model) is load:
            del self._loads[model]
        load.task.cancel()

    async def _load(self, served: Served) -> str:
        adapter = None
        if served.gguf_digest is not None:
            path = await asyncio.to_thread(self._blobs.path, served.project, served.gguf_digest)
            adapter = str(path)
        loaded = await self._serving.load(served.model, base=served.base, adapter=adapter)
        self._urls[served.model] = loaded.url
        return loaded.url
