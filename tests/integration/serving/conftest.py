from __future__ import annotations

from collections.abc import Iterator

import pytest
from model_servers import ModelServer, run_server


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with run_server(max_resident_models=2, probe_interval_seconds=0.1) as running:
        yield running


@pytest.fixture
def empty_server(server: ModelServer) -> ModelServer:
    for model in server.resident():
        server.client.unload(model)
    return server
