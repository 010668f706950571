"""From a poisoned delivery to its dead letter and back, with real worker and delivery processes."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient

from services.delivery import api
from shared import http
from shared.ids import Project
from shared.keys import KeyRing, StoredKey, mac_of
from shared.rotation import RotatingSecret
from shared.scopes import SCOPES

pytestmark = pytest.mark.timeout(300)

KEY = "ppt_abcdefghij_" + "a" * 43
LETTERS = "/api/v1/dead-letters"
POISONS = {
    "refuses": "probe_refused",
    "raises": "attempts; ValueError",
    "kills": "times and never ended",
}


class OneKey:
    """The key ring's snapshot with one key of project a."""

    def __init__(self):
        stored = StoredKey("abcdefghij", Project("a"), mac_of(KEY, "pepper"), SCOPES, None)
        self.value = {stored.key_id: stored}

    def refresh_soon(self):
        """Nothing newer exists."""


@pytest.fixture
def client(bench):
    app = http.make_api(
        title="t",
        version="0",
        units=bench.app,
        keys=KeyRing(OneKey(), RotatingSecret.fixed("pepper")),
    )
    app.include_router(api.router)
    boundary = http.RequestBoundary(app, max_body_bytes=1 << 20, max_upload_bytes=1 << 20)
    return TestClient(boundary, headers={"authorization": f"Bearer {KEY}"})


def test_poisoned_deliveries_are_replayed_with_one_effect_each(bench, eventually, client, tmp_path):
    """
    Guarantee: what cannot be done becomes a dead letter, and once it can be, a replay does it once,
    as part of the same chain of causes.
    """
    cure = tmp_path / "cure"
    with bench.delivery(), bench.worker():
        first = {
            kind: bench.deliver(task="drift.swallow_probe", subject=kind, model=str(cure))
            for kind in POISONS
        }
        eventually(lambda: len(client.get(LETTERS).json()["data"]) == 3, seconds=120)
        assert bench.effects() == []
        letters = {kind: client.get(f"{LETTERS}/{first[kind]}").json() for kind in POISONS}
        for kind, reason in POISONS.items():
            assert reason in letters[kind]["reason"]
        cure.touch()
        replayed = {
            kind: client.post(f"{LETTERS}/{letter}/replay").json()["id"]
            for kind, letter in first.items()
        }
        assert not set(replayed.values()) & set(first.values())
        eventually(lambda: len(bench.effects()) == 3)
        # A late bell of the first life rings nothing any more.
        for delivery in (*first.values(), *replayed.values()):
            bench.bell._celery.send_task("drift.swallow_probe", args=[delivery], queue="drift")
        bench.deliver(subject="last")
        eventually(lambda: not bench.rows("SELECT 1 FROM spine.deliveries"))
    assert sorted(bench.effects()) == ["kills", "last", "raises", "refuses"]
    causes = bench.rows(
        "SELECT subject, correlation_id, causation_id FROM spine.audit_entries "
        "WHERE action = 'probe.done' AND subject <> 'last'"
    )
    assert {row[0]: (row[1], row[2]) for row in causes} == {
        kind: (letter["event"]["correlationid"], letter["event"]["id"])
        for kind, letter in letters.items()
    }
    assert client.get(LETTERS).json()["data"] == []


@pytest.mark.parametrize("envelope", ["[]", "null", "7", '"text"', "{}", '{"id": "evt_1"}'])
def test_a_letter_that_cannot_be_read_is_shown_and_discarded_but_not_replayed(
    bench, client, envelope
):
    """Guarantee: whatever lies in a row, a person can look at it and put it away."""
    unreadable = bench.deliver()
    bench.rows(
        "UPDATE spine.deliveries SET envelope = CAST(:envelope AS jsonb) RETURNING 1",
        envelope=envelope,
    )
    bench.rows("SELECT spine.bury(CAST(:id AS uuid), 'message_unreadable')", id=unreadable)
    path = f"{LETTERS}/{unreadable}"
    (listed,) = client.get(LETTERS).json()["data"]
    assert client.get(path).json() == listed
    assert listed["event"] == json.loads(envelope)
    refused = client.post(f"{path}/replay")
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "dead_letter_unreadable"
    assert client.get(path).status_code == 200
    assert client.post(f"{path}/discard", json={"reason": "nobody knows"}).status_code == 200
    assert client.get(LETTERS).json()["data"] == []
    assert bench.rows(
        "SELECT subject, facts FROM spine.audit_entries WHERE action = 'dead_letter.discarded'"
    ) == [(unreadable, {"task": "drift.probe", "buried_because": "message_unreadable"})]


def test_a_discarded_letter_does_not_come_back(bench, eventually, client, tmp_path):
    """Guarantee: discarding is for good, whatever happens to the bus; the audit log keeps it."""
    with bench.delivery(), bench.worker():
        poisoned = bench.deliver(
            task="drift.swallow_probe", subject="refuses", model=str(tmp_path / "cure")
        )
        eventually(lambda: client.get(LETTERS).json()["data"])
        path = f"{LETTERS}/{poisoned}"
        assert client.post(f"{path}/discard", json={}).status_code == 400
        answer = client.post(f"{path}/discard", json={"reason": "made by mistake"})
        assert answer.json()["discarded"] is True
        (tmp_path / "cure").touch()
        bench.bell._celery.send_task("drift.swallow_probe", args=[poisoned], queue="drift")
        bench.deliver(subject="last")
        eventually(lambda: not bench.rows("SELECT 1 FROM spine.deliveries"))
    assert bench.effects() == ["last"]
    assert client.post(f"{path}/replay").status_code == 404
    ((reason, facts),) = bench.rows(
        "SELECT reason, facts FROM spine.audit_entries WHERE action = 'dead_letter.discarded'"
    )
    assert reason == "made by mistake"
    assert facts["task"] == "drift.swallow_probe"
    assert "probe_refused" in facts["buried_because"]
