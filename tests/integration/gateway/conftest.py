"""A gateway with every room on a real database, and keys for it."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from services.gateway.bootstrap import make_process_app
from services.gateway.settings import GatewaySettings
from shared.process import (
    process_blobs,
    process_secret,
    process_settings,
    process_units,
    spine_units,
)
from shared.rotation import Values
from shared.scopes import SCOPES
from shared.testing.upstream import Upstream
from tests import keys

PEPPER = "pepper-of-the-tests"


@pytest.fixture
def pepper():
    return Values.of(PEPPER)


@pytest.fixture
def upstream():
    """The model server."""
    with Upstream() as started:
        yield started


@pytest.fixture
def core(database, monkeypatch, tmp_path, upstream):
    """Settings of this process, by its environment: rooms open what they need for themselves."""
    for name, value in {
        "DATABASE_APP_URL": database.app,
        "DATABASE_SPINE_URL": database.spine,
        "HOME": tmp_path,
        "BLOBS_URL": tmp_path / "blobs",
        "SERVING_URL": upstream.url,
        "SECRETS_DIR": tmp_path / "secrets",
        "SNAPSHOT_MILLISECONDS": 100,
        "SECRET_API_KEY_PEPPER": PEPPER,
        "SECRET_RECEIPT_KEY": "receipt-key-of-the-tests",
    }.items():
        monkeypatch.setenv(f"PERPETUNE_{name}", str(value))
    _forget()
    yield process_settings()
    process_units().engine.dispose()
    spine_units().engine.dispose()
    _forget()


@pytest.fixture
def units(core):
    return process_units()


@pytest.fixture
def app(core):
    return make_process_app(GatewaySettings(max_body_bytes=4096, max_upload_bytes=8192))


@pytest.fixture
def client(app):
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def make_key(units):
    """Headers of a new key, by scopes, project and the pepper it is stored under."""

    def make(*scopes, project="a", pepper=PEPPER):
        key = keys.make_key(units, project, pepper, frozenset(scopes or SCOPES))
        return {"authorization": f"Bearer {key}"}

    return make


def _forget():
    for made_once in (process_settings, process_secret, process_units, spine_units, process_blobs):
        made_once.cache_clear()
