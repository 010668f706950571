"""Feedback over HTTP and its use cases on a real Postgres."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from services.feedback import api, repository, service
from services.feedback.domain import Label
from services.feedback.models import EntryRow
from services.workloads.service import workloads
from shared import http
from shared.blobs import make_blob_store
from shared.context import Context
from shared.contracts.feedback import CurateCorrections, ResolveOutcome
from shared.db import Units, make_engine
from shared.errors import Invalid, Missing
from shared.ids import Digest, Project, new_id, uuid7
from shared.keys import KeyRing, StoredKey, mac_of
from shared.policy import Policy
from shared.receipts import Receipt
from shared.rotation import RotatingSecret
from shared.scopes import SCOPES
from shared.settings import CoreSettings

KEY = "ppt_abcdefghij_" + "a" * 43
RECEIPT_KEY = b"receipt-key"
CONTEXT = Context.root(Project("default"), "test")
RELEASE = new_id("rel")


@pytest.fixture
def units(database):
    return Units(make_engine(database.app, CoreSettings()))


@pytest.fixture
def workload_id(units):
    with units.open(CONTEXT) as uow:
        return workloads.create_workload(
            uow,
            name="listing-extractor",
            base_model="smollm2-135m-instruct",
            aliases=[],
            policy=Policy(capture_content=True),
        ).workload_id


def _receipt(workload_id: str, arm: str = "live", project: str = "default") -> str:
    return Receipt(
        request=uuid7(),
        project=Project(project),
        workload_id=workload_id,
        release_id=RELEASE,
        arm=arm,
    ).sign(RECEIPT_KEY)


def _record(units, inference_id: str, label: Label) -> service.Recorded:
    with units.open(CONTEXT) as uow:
        return service.record_feedback(
            uow, inference_id=inference_id, label=label, receipt_keys=[RECEIPT_KEY]
        )


def _capture(database, workload_id: str, inference_id: str, question: str, answer: str) -> None:
    owner = Units(make_engine(database.owner, CoreSettings()))
    with owner.open(CONTEXT) as uow:
        uow.session.execute(
            text(
                "INSERT INTO inference.contents "
                "(project, inference_id, workload_id, messages, answer, created_at) "
                "VALUES ('default', :id, :workload, CAST(:messages AS jsonb), :answer, now())"
            ),
            {
                "id": inference_id,
                "workload": workload_id,
                "messages": json.dumps([{"role": "user", "content": question}]),
                "answer": answer,
            },
        )


def _outcomes(units) -> list[tuple[str, int, str, str]]:
    with units.open(CONTEXT) as uow:
        rows = uow.session.execute(
            text("SELECT inference_id, success, source, arm FROM feedback.outcomes_v1 ORDER BY seq")
        )
        return [tuple(row) for row in rows]


def _announced(units) -> list[int]:
    """Numbers of waiting corrections, in the order in which their lane delivers them."""
    with units.open(CONTEXT) as uow:
        return list(
            uow.session.execute(
                text(
                    "SELECT (envelope->'data'->>'waiting')::int FROM spine.deliveries "
                    "WHERE task = 'workloads.hear_correction' ORDER BY seq"
                )
            ).scalars()
        )


def test_the_first_outcome_counts_and_later_ones_are_stored(units, workload_id):
    inference_id = _receipt(workload_id, arm="canary")
    assert _record(units, inference_id, Label(success=True)).outcome == "success"
    assert _record(units, inference_id, Label(thumb="down")).outcome == "counted"
    assert _outcomes(units) == [(inference_id, 1, "success", "canary")]
    with units.open(CONTEXT) as uow:
        stored = uow.session.execute(text("SELECT count(*) FROM feedback.entries")).scalar_one()
    assert stored == 2


def test_an_id_of_another_project_or_a_forged_one_is_refused(units, workload_id):
    forged = _receipt(workload_id)[:-2] + "AA"
    for inference_id in (_receipt(workload_id, project="other"), forged, "inf_", "nonsense"):
        with pytest.raises(Invalid) as refused:
            _record(units, inference_id, Label(success=True))
        assert refused.value.code == "unknown_inference"
    assert _outcomes(units) == []


def test_a_correction_is_resolved_once_the_answer_has_arrived(units, database, workload_id):
    inference_id = _receipt(workload_id)
    recorded = _record(units, inference_id, Label(correction='{"a":2}'))
    assert recorded.outcome == "pending"
    command = ResolveOutcome(feedback_id=recorded.feedback_id)
    with pytest.raises(Missing), units.open(CONTEXT) as uow:
        service.resolve_outcome(uow, command)
    _capture(database, workload_id, inference_id, "q", '{"a": 1}')
    for _ in range(2):  # a second delivery changes nothing
        with units.open(CONTEXT) as uow:
            service.resolve_outcome(uow, command)
    assert _outcomes(units) == [(inference_id, 0, "correction", "live")]


def test_corrections_are_curated_once_the_latest_of_each_answer(
    units, database, workload_id, tmp_path
):
    blobs = make_blob_store(str(tmp_path))
    ids = [_receipt(workload_id) for _ in range(3)]
    for number, inference_id in enumerate(ids[:2]):
        _capture(database, workload_id, inference_id, f"q{number}", "wrong")
    _record(units, ids[0], Label(success=False, correction="first try"))
    for inference_id in ids:  # the third was never captured
        _record(units, inference_id, Label(success=False, correction="right"))
    with units.open(CONTEXT) as uow:
        command = CurateCorrections(cycle_id="cyc_1", workload_id=workload_id)
        service.curate_corrections(uow, blobs, command)
    with units.open(CONTEXT) as uow:
        fact = uow.session.execute(
            text(
                "SELECT envelope->'data' FROM spine.deliveries "
                "WHERE task = 'workloads.hear_corrections'"
            )
        ).scalar_one()
        waiting = repository.count_waiting(uow, workload_id)
    assert fact["rows"] == 2
    assert waiting == 1
    rows = [
        json.loads(line) for line in blobs.get(CONTEXT.project, Digest(fact["digest"])).splitlines()
    ]
    assert [row["messages"][0]["content"] for row in rows] == ["q0", "q1"]
    assert {row["messages"][1]["content"] for row in rows} == {"right"}


def test_waiting_corrections_are_announced_with_their_number(units, workload_id):
    for _ in range(3):
        _record(units, _receipt(workload_id), Label(success=False, correction="right"))
    assert _announced(units) == [1, 2, 3]


def test_corrections_of_one_moment_are_announced_with_their_true_number(units, workload_id):
    """Guarantee: the announcement that is heard last counts all, so no cycle waits for one more."""
    correction = Label(success=False, correction="right")
    is_stored = threading.Event()
    may_commit = threading.Event()

    def record_slowly() -> None:
        with units.open(CONTEXT) as uow:
            service.record_feedback(
                uow,
                inference_id=_receipt(workload_id),
                label=correction,
                receipt_keys=[RECEIPT_KEY],
            )
            is_stored.set()
            assert may_commit.wait(timeout=20)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(record_slowly)
        assert is_stored.wait(timeout=20)
        second = pool.submit(_record, units, _receipt(workload_id), correction)
        # Long enough to finish, if nothing held it back.
        time.sleep(0.3)
        may_commit.set()
        first.result()
        second.result()
    assert _announced(units) == [1, 2]


def test_corrections_of_many_at_once_end_with_their_true_number(units, workload_id):
    with ThreadPoolExecutor(8) as pool:
        recorded = [
            pool.submit(
                _record,
                units,
                _receipt(workload_id),
                Label(success=False, correction=f"right {number}"),
            )
            for number in range(40)
        ]
        for one in recorded:
            one.result()
    assert _announced(units) == list(range(1, 41))


class _OneKey:
    """The key ring's snapshot with one key in it."""

    def __init__(self) -> None:
        stored = StoredKey("abcdefghij", Project("default"), mac_of(KEY, "pepper"), SCOPES, None)
        self.value = {stored.key_id: stored}

    def refresh_soon(self) -> None:
        """Nothing newer exists."""


@pytest.fixture
def client(units, monkeypatch):
    monkeypatch.setattr(api, "_receipt_keys", lambda: [RECEIPT_KEY])
    app = http.make_api(
        title="t", version="0", units=units, keys=KeyRing(_OneKey(), RotatingSecret.fixed("pepper"))
    )
    app.include_router(api.router)
    app.add_middleware(http.RequestBoundary, max_body_bytes=1 << 20, max_upload_bytes=1 << 20)
    http.check_scopes(app)
    return TestClient(app, headers={"authorization": f"Bearer {KEY}"})


def test_feedback_over_http_says_what_became_of_it(client, workload_id):
    answer = client.post(
        "/api/v1/feedback", json={"inference_id": _receipt(workload_id), "rating": 5}
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["outcome"] == "success"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"rating": 6}, "rating"),
        ({"rating": "5"}, "rating"),
        ({"thumb": "sideways"}, "thumb"),
        ({"success": "yes"}, "success"),
        ({"correction": ""}, "correction"),
        ({"succes": True}, "succes"),
        ({}, None),
    ],
)
def test_bad_feedback_is_refused_with_its_field(client, workload_id, body, param):
    refused = client.post("/api/v1/feedback", json={"inference_id": _receipt(workload_id), **body})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == param


def test_feedback_without_an_id_is_refused(client):
    refused = client.post("/api/v1/feedback", json={"success": True})
    assert refused.json()["error"]["param"] == "inference_id"


def test_entries_of_another_project_are_not_seen(units, workload_id):
    recorded = _record(units, _receipt(workload_id), Label(success=True))
    with units.open(Context.root(Project("other"), "test")) as uow:
        assert uow.session.get(EntryRow, recorded.feedback_id) is None
