"""A gateway with every room on a real database, and keys for it."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from services.gateway import repository
from services.gateway.app import make_app
from services.gateway.settings import GatewaySettings
from shared.context import Context
from shared.db import Units, make_engine
from shared.ids import Project
from shared.keys import SCOPES, mac_of, new_key
from shared.settings import CoreSettings

PEPPER = "pepper-of-the-tests"


@pytest.fixture
def pepper():
    return PEPPER


@pytest.fixture
def core(database, monkeypatch, tmp_path):
    monkeypatch.setenv("PERPETUNE_SECRET_API_KEY_PEPPER", PEPPER)
    monkeypatch.setenv("PERPETUNE_SECRET_RECEIPT_KEY", "receipt-key-of-the-tests")
    return CoreSettings(
        database_app_url=database.app,
        database_spine_url=database.spine,
        secrets_dir=tmp_path / "secrets",
        snapshot_milliseconds=50,
    )


@pytest.fixture
def units(core):
    return Units(make_engine(core.database_app_url, core))


@pytest.fixture
def app(core, units):
    spine = Units(make_engine(core.database_spine_url, core))
    settings = GatewaySettings(max_body_bytes=4096, max_upload_bytes=8192)
    return make_app(core, settings, units=units, spine=spine)


@pytest.fixture
def client(app):
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def make_key(units):
    """Headers of a new key, by scopes and project."""

    def make(*scopes, project="a"):
        key_id, key = new_key()
        with units.open(Context.root(Project(project), "test")) as uow:
            repository.insert_project(uow.session, uow.project)
            repository.insert_key(
                uow.session,
                uow.project,
                key_id=key_id,
                name="test",
                mac=mac_of(key, PEPPER),
                scopes=frozenset(scopes or SCOPES),
                created_by="test",
                expires_at=None,
            )
        return {"authorization": f"Bearer {key}"}

    return make
