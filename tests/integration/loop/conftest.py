"""One project of the loop, and its API."""

from __future__ import annotations

from secrets import token_hex

import pytest
from fastapi.testclient import TestClient
from loop_rooms import KEYS, FixedKeys, Loop

from services.drift import api as drift
from services.releases import api as releases
from services.workloads import api as workloads
from services.workloads.service.workloads import create_workload
from shared import http
from shared.blobs import make_blob_store
from shared.db import Units, make_engine
from shared.keys import KeyRing
from shared.policy import Policy
from shared.rotation import RotatingSecret
from shared.settings import CoreSettings

POLICY = Policy.model_validate(
    {
        "canary": {"shares": [0.25]},
        "drift": {"baseline_outcomes": 30, "mean_run_length": 1000},
        "retraining": {"min_corrections": 24, "replay_rows": 100, "min_interval_seconds": 60},
    }
)


@pytest.fixture(scope="module")
def installation(module_database, tmp_path_factory):
    """One database for the tests of a module, which keep apart by project."""
    settings = CoreSettings()
    app = make_engine(module_database.app, settings)
    spine = make_engine(module_database.spine, settings)
    yield Units(app), Units(spine), make_blob_store(str(tmp_path_factory.mktemp("blobs")))
    app.dispose()
    spine.dispose()


@pytest.fixture
def loop(installation):
    return Loop(*installation, f"acme-{token_hex(4)}")


@pytest.fixture
def rival(loop):
    """Another project of the same installation."""
    return Loop(loop.units, loop.spine, loop.blobs, f"rival-{token_hex(4)}")


@pytest.fixture
def workload(loop):
    """Id of a workload whose base is live."""
    with loop.units.open(loop.context) as uow:
        row = create_workload(
            uow, name="extractor", base_model="smollm2-135m-instruct", aliases=[], policy=POLICY
        )
    loop.deliver()
    return row.workload_id


@pytest.fixture
def app(loop, rival):
    made = http.make_api(
        title="t",
        version="0",
        units=loop.units,
        keys=KeyRing(FixedKeys(loop, rival), RotatingSecret.fixed("pepper")),
    )
    for room in (workloads, releases, drift):
        made.include_router(room.router)
    http.check_scopes(made)
    return http.RequestBoundary(made, max_body_bytes=1 << 20, max_upload_bytes=1 << 20)


@pytest.fixture
def client(app):
    return TestClient(app, headers={"authorization": f"Bearer {KEYS['owner']}"})


@pytest.fixture
def other_client(app):
    return TestClient(app, headers={"authorization": f"Bearer {KEYS['other']}"})
