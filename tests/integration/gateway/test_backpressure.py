"""A project with as much unfinished work as it may have is told to wait, and nobody else is."""

from __future__ import annotations

import time
from functools import partial

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from structlog.testing import capture_logs

from infra.database import maintenance
from services.gateway.bootstrap import make_process_app
from services.gateway.settings import GatewaySettings
from shared.context import Context
from shared.contracts.ingestion import FileUploaded
from shared.contracts.workloads import WorkloadCreated
from shared.ids import Digest, Project
from shared.process import spine_units
from shared.spine.unfinished import full_projects

MOST = 6
WORKLOAD = {"name": "one", "base_model": "smollm2-135m-instruct"}


@pytest.fixture
def app(core):
    """Counts every 400 ms, four times as slowly as it reads keys."""
    return make_process_app(GatewaySettings(unfinished_deliveries_per_project=MOST))


@pytest.fixture
def emit(units):
    """Unfinished deliveries of a project, in two queues by turns."""

    def emit(count, project="a"):
        with units.open(Context.root(Project(project), "test")) as uow:
            for number in range(count):
                uow.emit(
                    WorkloadCreated(workload_id=f"wl_{number}", name="x", base_model="m")
                    if number % 2
                    else FileUploaded(
                        file_id=f"file-{number}", purpose="eval", digest=Digest("0" * 64), bytes=1
                    )
                )

    return emit


@pytest.fixture
def finish(units):
    """Take deliveries of a project, as workers do."""

    def finish(count, project="a"):
        with units.open(Context.root(Project(project), "test")) as uow:
            uow.session.execute(
                text("""
                    SELECT spine.take(id) FROM
                        (SELECT id FROM spine.deliveries ORDER BY seq LIMIT :count) AS found
                """),
                {"count": count},
            )

    return finish


def _metric(client, name):
    families = text_string_to_metric_families(client.get("/metrics").text)
    return next(f.samples[0].value for f in families if f.name == name)


def _await_full(client, count):
    deadline = time.monotonic() + 3
    while _metric(client, "gateway_projects_full") != count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _upload(client, headers):
    return client.post(
        "/v1/files",
        headers=headers,
        data={"purpose": "user_data"},
        files={"file": ("a.txt", b"hello")},
    )


def test_at_the_limit_what_adds_work_is_refused_until_work_is_done(
    client, make_key, emit, finish, units
):
    a, b = make_key(project="a"), make_key(project="b")
    emit(MOST - 1)
    time.sleep(0.6)
    assert client.post("/api/v1/workloads", headers=a, json=WORKLOAD).status_code == 201
    _await_full(client, 1)
    refused = client.post("/api/v1/workloads", headers=a, json={**WORKLOAD, "name": "two"})
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "10"
    error = refused.json()["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", "too_much_unfinished")
    assert str(MOST) in error["message"]
    with units.open(Context.root(Project("a"), "test")) as uow:
        count = uow.session.execute(text("SELECT count(*) FROM spine.deliveries")).scalar_one()
    assert count == MOST
    assert client.post("/api/v1/workloads", headers=b, json=WORKLOAD).status_code == 201
    finish(1)
    _await_full(client, 0)
    again = client.post("/api/v1/workloads", headers=a, json={**WORKLOAD, "name": "two"})
    assert again.status_code == 201


def test_every_way_to_add_work_is_refused_and_what_ends_or_shows_it_is_not(client, make_key, emit):
    headers = make_key()
    emit(MOST)
    _await_full(client, 1)
    post = partial(client.post, headers=headers)
    for path, body in {
        "/v1/fine_tuning/jobs": {"model": "m", "training_file": "file-x"},
        "/api/v1/workloads": WORKLOAD,
        "/api/v1/workloads/x/cycles": {},
        "/api/v1/evaluations": {"model": "m", "file": "file-x"},
        "/api/v1/releases": {"workload": "w", "model": "m"},
        "/api/v1/feedback": {"inference_id": "inf_x", "success": True},
    }.items():
        answer = post(path, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (
            429,
            "too_much_unfinished",
        ), path
    assert _upload(client, headers).status_code == 429
    for method, path, body in (
        ("POST", "/v1/fine_tuning/jobs/x/cancel", None),
        ("POST", "/api/v1/releases/x/rollback", {"reason": "worse"}),
        ("POST", "/api/v1/dead-letters/0/replay", None),
        ("POST", "/api/v1/dead-letters/0/discard", {"reason": "old"}),
        ("PUT", "/api/v1/workloads/x/policy", {}),
        ("DELETE", "/v1/files/x", None),
        ("GET", "/v1/files/x", None),
        ("GET", "/api/v1/workloads/x", None),
    ):
        answer = client.request(method, path, headers=headers, json=body)
        assert answer.status_code in {400, 404}, (path, answer.text)
        assert answer.json()["error"]["code"] != "too_much_unfinished"
    assert post("/api/v1/keys", json={"name": "x", "scopes": ["files:read"]}).is_success
    assert post("/api/v1/subscriptions", json={"queue": "q", "types": []}).is_success


def test_a_repetition_of_what_was_done_gets_its_answer_at_the_limit(client, make_key, emit):
    headers = {**make_key(), "idempotency-key": "one"}
    first = client.post("/api/v1/workloads", headers=headers, json=WORKLOAD)
    assert first.status_code == 201
    emit(MOST)
    _await_full(client, 1)
    again = client.post("/api/v1/workloads", headers=headers, json=WORKLOAD)
    assert again.content == first.content
    other = {**headers, "idempotency-key": "two"}
    body = {**WORKLOAD, "name": "two"}
    assert client.post("/api/v1/workloads", headers=other, json=body).status_code == 429


def test_a_refused_request_left_its_idempotency_key_free(client, make_key, emit, finish):
    headers = {**make_key(), "idempotency-key": "one"}
    emit(MOST)
    _await_full(client, 1)
    assert client.post("/api/v1/workloads", headers=headers, json=WORKLOAD).status_code == 429
    finish(MOST)
    _await_full(client, 0)
    assert client.post("/api/v1/workloads", headers=headers, json=WORKLOAD).status_code == 201


def test_the_refusals_go_on_while_postgres_is_away_and_the_log_names_the_project(
    client, make_key, emit, database
):
    a, b = make_key(project="a"), make_key(project="b")
    assert client.get("/api/v1/keys", headers=b).is_success
    with capture_logs() as lines:
        emit(MOST)
        _await_full(client, 1)
    assert [(line["event"], line["project"]) for line in lines if "project" in line][:1] == [
        ("project_full", "a")
    ]
    with maintenance(database.owner) as owner:
        name = database.owner.rpartition("/")[2].partition("?")[0]
        owner.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        time.sleep(1.0)
        of_a, of_b = _upload(client, a), _upload(client, b)
        owner.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert (of_a.status_code, of_b.status_code) == (429, 503)


def test_the_count_is_of_all_queues_and_of_what_is_due_later_as_well(core, units, emit):
    emit(5, "a")
    emit(4, "b")
    emit(3, "c")
    with units.open(Context.root(Project("b"), "test")) as uow:
        later = WorkloadCreated(workload_id="wl", name="x", base_model="m")
        uow.emit(later, due_in_seconds=3600)
    for most, expected in ((1, "abc"), (4, "ab"), (5, "ab"), (6, "")):
        with spine_units().open(Context.root(Project(""), "test")) as uow:
            full = {row[0] for row in uow.session.execute(full_projects(most))}
        assert full == set(expected)
