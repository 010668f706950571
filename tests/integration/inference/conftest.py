"""Doors of inference for the tests; see inference_doors.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from inference_doors import Directed, Door, World, http_door, model_server, served

from services.inference.settings import InferenceSettings
from shared.db import Units, make_engine
from shared.rendering.bases import list_bases
from shared.settings import CoreSettings


@pytest.fixture
def directed() -> Iterator[Directed]:
    server = Directed()
    with served(server.app()) as url:
        server.url = url
        yield server


@pytest.fixture
def fast() -> dict[str, Any]:
    """Settings with which failures take no time."""
    return {"retry_first_milliseconds": 1, "retry_longest_milliseconds": 2}


@pytest.fixture
def world(directed: Directed, tmp_path: Path, fast: dict[str, Any]) -> World:
    return World(tmp_path, directed.url, InferenceSettings(**fast))


@pytest.fixture
def door(world: World) -> Iterator[Door]:
    with http_door(world) as opened:
        yield opened


@pytest.fixture(scope="session")
def serving_url() -> Iterator[str]:
    with model_server() as url:
        yield url


@pytest.fixture
def real_door(serving_url: str, tmp_path: Path) -> Iterator[Door]:
    assert list_bases(), "the default base is not installed"
    with http_door(World(tmp_path, serving_url)) as opened:
        yield opened


@pytest.fixture
def spine(database) -> Units:
    return Units(make_engine(database.spine, CoreSettings(), pool=2))
