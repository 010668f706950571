"""Health, readiness, metrics and logs of a gateway."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from infra.database import maintenance
from infra.local.settings import free_port
from services.gateway.bootstrap import make_process_app
from services.gateway.settings import GatewaySettings
from shared.context import Context
from shared.contracts.workloads import WorkloadCreated
from shared.ids import Project


def test_a_gateway_with_a_database_is_alive_and_ready(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready", "missing": []}


def test_a_gateway_that_lost_its_database_is_alive_and_says_what_is_missing(core, database):
    app = make_process_app(GatewaySettings(snapshot_fresh_seconds=0.3))
    with TestClient(app) as client, maintenance(database.owner) as owner:
        name = database.owner.rpartition("/")[2].partition("?")[0]
        owner.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        time.sleep(0.5)
        answer = client.get("/readyz")
        alive = client.get("/healthz")
        owner.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert alive.status_code == 200
    assert answer.status_code == 503
    assert "Postgres does not answer" in answer.json()["missing"][0]
    assert "keys in memory" in answer.json()["missing"][1]


def test_metrics_count_by_route_template_and_show_the_backlog(client, make_key, units):
    headers = make_key()
    with units.open(Context.root(Project("a"), "test")) as uow:
        uow.emit(WorkloadCreated(workload_id="wl_1", name="x", base_model="m"))
    client.delete("/api/v1/keys/one", headers=headers)
    client.delete("/api/v1/keys/two", headers=headers)
    client.get("/nothing/secret")
    text = client.get("/metrics").text
    assert (
        'gateway_requests_total{method="DELETE",route="/api/v1/keys/{key_id}",status="404"} 2.0'
        in text
    )
    assert 'route="unmatched",status="404"} 1.0' in text
    assert "secret" not in text
    assert 'delivery_due{queue="releases"} 1.0' in text
    assert 'delivery_dead_letters{queue="releases"} 0.0' in text
    assert "gateway_snapshot_age_seconds" in text


def test_the_process_serves_and_its_log_never_holds_a_key(core, make_key, tmp_path):
    port = free_port()
    headers = make_key()
    log = tmp_path / "gateway.log"
    environment = {**os.environ, "PERPETUNE_PORT": str(port)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.gateway"],
            cwd=Path(__file__).parents[3],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _await(f"http://127.0.0.1:{port}/readyz", log)
        url = f"http://127.0.0.1:{port}/api/v1/keys?after=ppt_x"
        wrong = {"authorization": "Bearer ppt_wrong_" + "y" * 43}
        for given, code in ((headers, 400), (wrong, 401)):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(urllib.request.Request(url, headers=given))
            assert refused.value.code == code
    finally:
        process.terminate()
        assert process.wait(timeout=20) in {0, -15}
    written = log.read_text()
    assert '"event": "request_finished"' in written
    assert headers["authorization"].rpartition("_")[2] not in written
    assert "y" * 43 not in written
    assert "uthorization" not in written


def _await(url: str, log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
