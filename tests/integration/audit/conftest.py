"""An audit log on a real database, its sealer and witness, and a gateway to export it from."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from sealed_log import PEPPER, SealedLog

from services.gateway.bootstrap import make_process_app
from services.gateway.settings import GatewaySettings
from shared.process import (
    process_blobs,
    process_secret,
    process_settings,
    process_units,
    spine_units,
)


@pytest.fixture
def log(database, tmp_path):
    made = SealedLog(database, tmp_path / "witness")
    yield made
    made.close()


@pytest.fixture(scope="module")
def kept_log(module_database, tmp_path_factory):
    """Twelve entries under checkpoints of 5, 9 and 12, for tests that leave them as they are."""
    made = SealedLog(module_database, tmp_path_factory.mktemp("kept") / "witness")
    made.write_sealed()
    yield made
    made.close()


@pytest.fixture
def gateway(database, monkeypatch, tmp_path):
    for name, value in {
        "DATABASE_APP_URL": database.app,
        "DATABASE_SPINE_URL": database.spine,
        "HOME": tmp_path,
        "BLOBS_URL": tmp_path / "blobs",
        "SECRETS_DIR": tmp_path / "secrets",
        "SNAPSHOT_MILLISECONDS": 100,
        "SECRET_API_KEY_PEPPER": PEPPER,
        "SECRET_RECEIPT_KEY": "receipt-key-of-the-tests",
    }.items():
        monkeypatch.setenv(f"PERPETUNE_{name}", str(value))
    processes = (process_settings, process_secret, process_units, spine_units, process_blobs)
    for made in processes:
        made.cache_clear()
    with TestClient(make_process_app(GatewaySettings()), raise_server_exceptions=False) as client:
        yield client
    process_units().engine.dispose()
    spine_units().engine.dispose()
    for made in processes:
        made.cache_clear()
