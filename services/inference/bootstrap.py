"""Composition: from settings to a core that answers. The only module that knows all parts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import httpx2
from sqlalchemy.exc import SQLAlchemyError

from services.inference import stored
from services.inference.adapters.llama import LlamaUpstream
from services.inference.adapters.residence import Residence
from services.inference.adapters.scoring import ServingScoring
from services.inference.attempts import Attempts
from services.inference.breakers import Breakers
from services.inference.core import Core
from services.inference.domain.breaker import Breaker, RetryBudget
from services.inference.domain.retry import Schedule
from services.inference.embeddings import Embeddings
from services.inference.ports import Scoring, Upstream
from services.inference.recorder import Recorder
from services.inference.records import Line
from services.inference.repository import snapshots
from services.inference.repository.records import RecordTable
from services.inference.router import Router
from services.inference.settings import InferenceSettings
from services.inference.shipper import Shipper
from services.inference.spool import Spool
from shared.adapter_folders import AdapterFolders
from shared.context import Context
from shared.db import Units
from shared.errors import Unavailable
from shared.ids import Project
from shared.logging import get_logger
from shared.process import process_blobs, process_secret, process_settings, spine_units
from shared.rendering.bases import list_bases
from shared.rendering.tokenizer import load_tokenizer
from shared.serving_client import AsyncServingClient
from shared.settings import CoreSettings
from shared.snapshots import Snapshot

_log = get_logger(__name__)
_FORGET_EVERY_SECONDS = 600.0

SYSTEM = Context.root(Project(""), "process:inference")


@dataclass(frozen=True, slots=True)
class Inference:
    """What a door needs; without a shipper, records stay in the spool."""

    core: Core
    embeddings: Embeddings
    breakers: Breakers
    settings: InferenceSettings
    shipper: Shipper | None = None


def make_inference(
    settings: InferenceSettings,
    *,
    router: Router,
    upstream: Upstream,
    scoring: Scoring,
    recorder: Recorder,
) -> Inference:
    """The core over given parts."""
    schedule = Schedule(
        attempts=settings.attempts,
        first_seconds=settings.retry_first_milliseconds / 1000,
        longest_seconds=settings.retry_longest_milliseconds / 1000,
    )
    breakers = make_breakers(settings)
    attempts = Attempts(
        upstream, schedule, breakers, max_running_per_model=settings.max_running_per_model
    )
    core = Core(
        router=router, attempts=attempts, scoring=scoring, recorder=recorder, settings=settings
    )
    embeddings = Embeddings(
        router=router, scoring=scoring, recorder=recorder, total_seconds=settings.total_seconds
    )
    return Inference(core, embeddings, breakers, settings)


def make_breakers(settings: InferenceSettings) -> Breakers:
    """Breakers and retry budgets of one process."""
    return Breakers(
        Breaker(
            failures=settings.breaker_failures,
            pause_seconds=settings.breaker_pause_seconds,
            longest_pause_seconds=settings.breaker_longest_pause_seconds,
            longest_rest_seconds=settings.longest_rest_seconds,
        ),
        RetryBudget(share=settings.retry_share, floor=settings.retry_floor),
        clock=time.monotonic,
    )


@asynccontextmanager
async def open_inference() -> AsyncIterator[Inference]:
    """The core of this process; what its spool holds is shipped at the end."""
    core, settings = process_settings(), InferenceSettings()
    async with AsyncExitStack() as stack:
        router = await asyncio.to_thread(_start_router, core, stack)
        await asyncio.to_thread(_warm_up)
        shipper = await _start_shipper(core, settings, stack)
        recorder = Recorder(shipper.spool, process_secret("receipt_key"))
        serving = AsyncServingClient(core.serving_url)
        stack.push_async_callback(serving.close)
        http = await stack.enter_async_context(make_http())
        blobs = process_blobs()
        inference = make_inference(
            settings,
            router=router,
            upstream=LlamaUpstream(Residence(serving, blobs), http),
            scoring=ServingScoring(serving, blobs, AdapterFolders(core.home / "adapters")),
            recorder=recorder,
        )
        forgetting = asyncio.create_task(_forget(spine_units(), settings.stored_completion_days))
        stack.callback(forgetting.cancel)
        yield replace(inference, shipper=shipper)


def make_http() -> httpx2.AsyncClient:
    """The pool for children: no limit but admission, no time-out but the request's deadline."""
    return httpx2.AsyncClient(
        trust_env=False,
        timeout=httpx2.Timeout(None, connect=5.0),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
    )


def make_store(units: Units) -> Callable[[Sequence[Line]], None]:
    """Stores lines of the spool through units of the role `spine`."""
    table = RecordTable()

    def store(lines: Sequence[Line]) -> None:
        try:
            with units.open(SYSTEM) as uow:
                table.store(uow.session, lines)
        except SQLAlchemyError as error:
            # For example a table that a migration has still to make: the lines can wait for it.
            raise Unavailable(
                f"Records cannot be stored: {error}.", code="record_store_failed"
            ) from error

    return store


def _start_router(core: CoreSettings, stack: AsyncExitStack) -> Router:
    period = core.snapshot_milliseconds / 1000
    routes = Snapshot(
        spine_units(),
        snapshots.ROUTES_QUERY,
        snapshots.routes_from_rows,
        period_seconds=period,
    )
    models = Snapshot(
        spine_units(),
        snapshots.MODELS_QUERY,
        snapshots.models_from_rows,
        period_seconds=period,
    )
    for snapshot in (models, routes):
        snapshot.start()
        stack.callback(snapshot.stop)
    return Router(routes, models)


async def _start_shipper(
    core: CoreSettings, settings: InferenceSettings, stack: AsyncExitStack
) -> Shipper:
    spool = Spool(
        core.home / "spool" / "inference",
        segment_bytes=settings.spool_segment_bytes,
        max_bytes=settings.spool_max_bytes,
    )
    shipper = Shipper(
        spool,
        make_store(spine_units()),
        period_seconds=settings.ship_milliseconds / 1000,
        rows=settings.ship_rows,
    )
    shipper.start()
    stack.callback(spool.close)
    stack.push_async_callback(asyncio.to_thread, shipper.stop)
    return shipper


async def _forget(spine: Units, days: float) -> None:
    while True:
        try:
            await asyncio.to_thread(stored.forget_old, spine, SYSTEM, days)
        except Unavailable as error:
            _log.warning("stored_completions_not_forgotten", reason=error.message)
        await asyncio.sleep(_FORGET_EVERY_SECONDS)


def _warm_up() -> None:
    """A tokenizer takes 0.4 s to build; the first caller should not wait for it."""
    for base in list_bases():
        load_tokenizer(base)
