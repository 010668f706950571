"""The room's API on a real Postgres and on a real socket."""

from __future__ import annotations

import socket
import threading
import time

import pytest
import uvicorn
from fastapi.testclient import TestClient
from finetuning_room import KEYS, FixedKeys, Room
from provider_room import provider_room

from services.finetuning import api
from shared import http
from shared.db import Units, make_engine
from shared.keys import KeyRing
from shared.rotation import RotatingSecret
from shared.settings import CoreSettings
from shared.testing.provider import TrainingService


@pytest.fixture
def room(database):
    settings = CoreSettings()
    return Room(
        Units(make_engine(database.app, settings)), Units(make_engine(database.spine, settings))
    )


@pytest.fixture
def app(room):
    made = http.make_api(
        title="t",
        version="0",
        units=room.units,
        keys=KeyRing(FixedKeys(), RotatingSecret.fixed("pepper")),
    )
    made.include_router(api.router)
    http.check_scopes(made)
    return http.RequestBoundary(made, max_body_bytes=1 << 20, max_upload_bytes=1 << 20)


@pytest.fixture
def client(app):
    return TestClient(app, headers={"authorization": f"Bearer {KEYS['owner']}"})


@pytest.fixture
def served(app):
    """Address of the app on a real socket, for clients that bring their own transport."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    server.should_exit = True
    thread.join()
    listening.close()


@pytest.fixture
def service():
    with TrainingService() as running:
        yield running


@pytest.fixture
def home(database, tmp_path, service, monkeypatch):
    """Jobs at the simulated provider."""
    with provider_room(database, tmp_path, service, monkeypatch) as made:
        yield made
