"""Batches in a test: their API for two projects, a door in a thread, and ingestion beside it."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import openai
from inference_doors import BASE, Fixed, World, served
from sqlalchemy import text

from services.inference.api import router as inference_routes
from services.inference.batches.asking import Asker
from services.inference.batches.runner import BatchRunner
from services.ingestion import service as ingestion
from services.ingestion import tasks as _  # noqa: F401 - registers what it consumes
from services.ingestion.api import router as file_routes
from services.ingestion.service import Upload
from shared.answering import CONSUMERS
from shared.attempt import Attempt
from shared.context import Context
from shared.db import Units, make_engine
from shared.http import RequestBoundary, check_scopes, make_api
from shared.ids import Project
from shared.keys import KeyRing, StoredKey, mac_of
from shared.process import process_blobs, process_settings
from shared.rotation import RotatingSecret
from shared.scopes import SCOPES
from shared.settings import CoreSettings

CHAT = "/v1/chat/completions"
PROJECTS = ("acme", "rival")
KEYS = {project: f"ppt_{project}_" + "a" * 43 for project in PROJECTS}


def line(name: str, *, url: str = CHAT, **body: Any) -> dict[str, Any]:
    """A good request, which a model is asked in words of its own."""
    asked = {"model": BASE, "messages": [{"role": "user", "content": f"Say {name}."}]}
    return {"custom_id": name, "method": "POST", "url": url, "body": asked | body}


def lines(*names: object) -> list[dict[str, Any]]:
    return [line(str(name)) for name in names]


@dataclass
class Batches:
    """What clients and operators see."""

    world: World
    database: Any
    url: str
    units: Units
    spine: Units
    clients: dict[str, openai.OpenAI] = field(default_factory=dict)

    def client(self, project: str = "acme") -> openai.OpenAI:
        """The unmodified client, as strict as it can be."""
        if project not in self.clients:
            self.clients[project] = openai.OpenAI(
                base_url=f"{self.url}/v1",
                api_key=KEYS[project],
                max_retries=0,
                timeout=60,
                _strict_response_validation=True,
            )
        return self.clients[project]

    def upload(self, given: list[Any] | bytes, project: str = "acme", purpose: str = "batch"):
        """The id of a new file."""
        content = (
            given
            if isinstance(given, bytes)
            else b"".join(json.dumps(each).encode() + b"\n" for each in given)
        )
        return ingestion.receive_file(
            self.units,
            self.world.blobs,
            Context.root(Project(project), "test"),
            Upload(purpose, "requests.jsonl"),
            io.BytesIO(content),
            max_bytes=1 << 24,
            retry_window_seconds=0,
        ).id

    def create(self, given: list[Any] | bytes, project: str = "acme", **options: Any):
        """A new batch of these lines."""
        asked = {"endpoint": CHAT, "completion_window": "24h"} | options
        file_id = self.upload(given, project)
        return self.client(project).batches.create(input_file_id=file_id, **asked)

    def seen(self, batch_id: str, project: str = "acme"):
        return self.client(project).batches.retrieve(batch_id)

    def awaited(self, batch_id: str, *states: str, project: str = "acme", seconds: float = 30.0):
        """The batch when it is in one of *states*, by default in one that ends it."""
        wanted = states or ("completed", "failed", "expired", "cancelled")
        end = time.monotonic() + seconds
        while (batch := self.seen(batch_id, project)).status not in wanted:
            assert time.monotonic() < end, batch
            time.sleep(0.03)
        return batch

    def content(self, file_id: str | None, project: str = "acme") -> list[dict[str, Any]]:
        """The lines of a file that a batch made."""
        assert file_id is not None
        raw = self.client(project).files.content(file_id).text
        return [json.loads(each) for each in raw.splitlines()]

    def execute(self, statement: str, **values: Any) -> None:
        with self.units.open(Context.root(Project("acme"), "test")) as uow:
            uow.session.execute(text(statement), values)

    def rows(self, query: str, **values: Any) -> list[Any]:
        with self.spine.open(Context.root(Project("acme"), "test")) as uow:
            return list(uow.session.execute(text(query), values).all())


@contextmanager
def batches_of(world: World, database: Any, monkeypatch: Any) -> Iterator[Batches]:
    """The API on a real socket. Nobody works on what it accepts."""
    monkeypatch.setenv("PERPETUNE_BLOBS_URL", str(world.folder / "blobs"))
    _forget()
    units = Units(make_engine(database.app, CoreSettings()))
    spine = Units(make_engine(database.spine, CoreSettings(), pool=3))
    keys = {
        project: StoredKey(project, Project(project), mac_of(KEYS[project], "p"), SCOPES, None)
        for project in PROJECTS
    }
    app = make_api(
        title="t", version="1", units=units, keys=KeyRing(Fixed(keys), RotatingSecret.fixed("p"))
    )
    app.include_router(inference_routes)
    app.include_router(file_routes)
    check_scopes(app)
    with served(RequestBoundary(app, max_body_bytes=1 << 22, max_upload_bytes=1 << 22)) as url:
        batches = Batches(world, database, url, units, spine)
        yield batches
        for client in batches.clients.values():
            client.close()
    _forget()


def _forget() -> None:
    for once in (process_settings, process_blobs):
        once.cache_clear()


@contextmanager
def batch_door(
    batches: Batches, *, lease_seconds: float = 5.0, units: Units | None = None
) -> Iterator[None]:
    """A door in an event loop of its own; stopped in order at the end."""
    stops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    ready = threading.Event()
    world = batches.world

    async def run() -> None:
        inference = world.compose()
        stop = asyncio.Event()
        stops.append((asyncio.get_running_loop(), stop))
        runner = BatchRunner(
            Asker(
                inference.core,
                inference.embeddings,
                total_seconds=60,
                concurrency=world.settings.batch_concurrency,
            ),
            units=units or batches.units,
            spine=batches.spine,
            blobs=world.blobs,
            settings=world.settings,
            lease_seconds=lease_seconds,
        )
        ready.set()
        await runner.run(stop)

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield
    finally:
        loop, stop = stops[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        assert not thread.is_alive()


@contextmanager
def ingestion_worker(batches: Batches) -> Iterator[None]:
    """Answers what is due for ingestion, as a worker does when the bell rings."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.03):
            for row in batches.rows("SELECT id FROM spine.deliveries WHERE queue = 'ingestion'"):
                Attempt(batches.units, CONSUMERS, make_way=lambda: None).answer(str(row.id))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
