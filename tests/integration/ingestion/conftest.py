"""The room behind a real boundary, on a real Postgres and a real blob store."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from ingestion_room import KEY, OneKey

from services.ingestion import api
from shared import http, process
from shared.db import Units, make_engine
from shared.keys import KeyRing
from shared.rotation import RotatingSecret
from shared.settings import CoreSettings


@pytest.fixture
def units(database):
    return Units(make_engine(database.app, CoreSettings()))


@pytest.fixture
def blobs(tmp_path, monkeypatch):
    monkeypatch.setenv("PERPETUNE_BLOBS_URL", str(tmp_path))
    process.process_settings.cache_clear()
    process.process_blobs.cache_clear()
    yield process.process_blobs()
    process.process_settings.cache_clear()
    process.process_blobs.cache_clear()


@pytest.fixture
def http_client(units, blobs):
    app = http.make_api(
        title="t", version="0", units=units, keys=KeyRing(OneKey(), RotatingSecret.fixed("pepper"))
    )
    app.include_router(api.router)
    app.add_middleware(http.RequestBoundary, max_body_bytes=1 << 20, max_upload_bytes=1 << 26)
    http.check_scopes(app)
    return TestClient(app, headers={"authorization": f"Bearer {KEY}"})
