"""The application: the boundary, the rooms, the operators' routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from typing import Any

from fastapi import FastAPI

from services.gateway import operations
from services.gateway.description import describe
from services.gateway.doorkeeper import Doorkeeper
from services.gateway.metrics import Measured, Metrics, RoomCollector
from services.gateway.renewing import Renewing
from services.gateway.rooms import enter_lifespans, find_rooms
from services.gateway.settings import GatewaySettings
from shared.backpressure import Backlogs
from shared.db import Units
from shared.http import RequestBoundary, check_scopes, make_api
from shared.idempotency import check_creations
from shared.keys import KEYS_QUERY, KeyRing, StoredKey, keys_from_rows
from shared.process import process_secret
from shared.settings import CoreSettings
from shared.snapshots import Snapshot

# Counting backlogs costs more than reading keys, and being late costs a few deliveries.
_COUNT_PERIODS = 4


def make_app(
    core: CoreSettings, settings: GatewaySettings, *, units: Units, spine: Units
) -> FastAPI:
    """
    The gateway with the routes of every room.

    Args:
        core: Snapshot period.
        settings: Limits.
        units: Of the role `app`, for requests.
        spine: Of the role `spine`, for snapshots.

    Raises:
        Corrupt: A route declares neither a scope nor that it is public, or creates something
            without honouring idempotency keys.
        Missing: The pepper of the API keys is not set.
    """
    snapshot: Snapshot[dict[str, StoredKey]] = Snapshot(
        spine, KEYS_QUERY, keys_from_rows, period_seconds=core.snapshot_milliseconds / 1000
    )
    keys = KeyRing(snapshot, process_secret("api_key_pepper"))
    renewing = Renewing(units, keys)
    backlogs = Backlogs(
        spine,
        most=settings.unfinished_deliveries_per_project,
        period_seconds=core.snapshot_milliseconds / 1000 * _COUNT_PERIODS,
    )
    rooms = find_rooms()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for background in (snapshot, backlogs, renewing):
                stack.callback(background.stop)
                background.start()
            await enter_lifespans(stack, app, rooms)
            yield

    app = make_api(title="Perpetune", version="0.1.0", units=units, keys=keys, lifespan=lifespan)
    app.include_router(operations.router)
    for room in rooms:
        app.include_router(room.router)
    check_scopes(app)
    check_creations(app)
    app.state.spine = spine
    app.state.backlogs = backlogs
    app.state.snapshot = snapshot
    app.state.snapshot_fresh_seconds = settings.snapshot_fresh_seconds
    app.state.metrics = Metrics()
    app.state.metrics.registry.register(RoomCollector(app, rooms))
    _describe_once(app)
    _guard(app, settings, keys)
    return app


def _guard(app: FastAPI, settings: GatewaySettings, keys: KeyRing) -> None:
    """Middleware from the inside out: the last one added sees a request first."""
    app.add_middleware(Doorkeeper, keys=keys)
    app.add_middleware(
        RequestBoundary,
        max_body_bytes=settings.max_body_bytes,
        max_upload_bytes=settings.max_upload_bytes,
    )
    app.add_middleware(Measured, metrics=app.state.metrics)


def _describe_once(app: FastAPI) -> None:
    @cache
    def description() -> dict[str, Any]:
        return describe(app)

    app.openapi = description  # type: ignore[method-assign]  # the documented way to replace it
