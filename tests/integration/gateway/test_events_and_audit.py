"""Events, subscriptions, dead letters and the audit log over HTTP."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from services.delivery.bootstrap import delivery_settings
from shared.context import Context
from shared.contracts.envelope import Envelope
from shared.contracts.workloads import CycleOpened, WorkloadCreated
from shared.ids import Project, uuid7
from shared.process import spine_units
from shared.spine import dead_letters, deliveries

A, B = (Context.root(Project(name), "test") for name in "ab")


@pytest.fixture
def emit(units):
    def emit(message, context=A):
        with units.open(context) as uow:
            return uow.emit(message)

    return emit


def _workload(name: str) -> WorkloadCreated:
    return WorkloadCreated(workload_id=name, name=name, base_model="m")


def _code(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_events_are_read_in_order_page_by_page_and_of_one_project(client, make_key, emit):
    ids = [emit(_workload(f"wl_{n}")) for n in range(3)]
    emit(_workload("wl_other"), B)
    headers = make_key("events:read")
    first = client.get("/api/v1/events?limit=2", headers=headers).json()
    rest = client.get(f"/api/v1/events?after={first['last_id']}", headers=headers).json()
    assert [event["id"] for event in first["data"] + rest["data"]] == ids
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert first["data"][0]["specversion"] == "1.0"
    assert first["data"][0]["project"] == "a"


def test_events_can_be_picked_by_type_and_a_wrong_cursor_or_type_is_named(client, make_key, emit):
    emit(_workload("wl_1"))
    emit(CycleOpened(cycle_id="cyc_1", workload_id="wl_1", trigger="request"))
    headers = make_key("events:read")
    found = client.get("/api/v1/events?types=cycle.opened.v1", headers=headers).json()["data"]
    assert [event["subject"] for event in found] == ["cyc_1"]
    unknown = client.get("/api/v1/events?types=canary.fold.v1", headers=headers)
    assert _code(unknown) == (400, "unknown_event_type")
    assert _code(client.get("/api/v1/events?after=x", headers=headers)) == (400, "unknown_cursor")


def test_a_subscription_says_where_to_listen_and_lives_until_deleted(client, make_key):
    headers = make_key("events:read", "events:write")
    made = client.post("/api/v1/subscriptions", headers=headers, json={"queue": "mine"}).json()
    assert made["broker"]["queue"] == "events.a.mine"
    assert made["broker"]["global_keyprefix"].endswith("events:a:")
    assert client.get("/api/v1/subscriptions", headers=headers).json()["data"] == [made]
    twice = client.post("/api/v1/subscriptions", headers=headers, json={"queue": "mine"})
    assert _code(twice) == (400, "queue_taken")
    theirs = make_key(project="b")
    assert client.get("/api/v1/subscriptions", headers=theirs).json()["data"] == []
    path = f"/api/v1/subscriptions/{made['id']}"
    assert _code(client.delete(path, headers=theirs)) == (404, "subscription_not_found")
    assert client.delete(path, headers=headers).json()["deleted"] is True
    assert _code(client.delete(path, headers=headers)) == (404, "subscription_not_found")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"queue": "Not a name"}, "invalid_queue_name"),
        ({"queue": "mine", "types": ["no.such.v1"]}, "unknown_event_type"),
        ({"queue": "mine", "color": 1}, "invalid_value"),
    ],
)
def test_a_subscription_that_cannot_be_is_refused(client, make_key, body, code):
    answer = client.post("/api/v1/subscriptions", headers=make_key(), json=body)
    assert _code(answer) == (400, code)


def test_a_project_has_a_bounded_number_of_subscriptions(client, make_key, monkeypatch):
    monkeypatch.setenv("PERPETUNE_SUBSCRIPTIONS_PER_PROJECT", "1")
    delivery_settings.cache_clear()
    headers = make_key()
    assert client.post("/api/v1/subscriptions", headers=headers, json={"queue": "one"}).is_success
    answer = client.post("/api/v1/subscriptions", headers=headers, json={"queue": "two"})
    delivery_settings.cache_clear()
    assert _code(answer) == (429, "too_many_subscriptions")


def test_a_dead_letter_is_shown_with_its_reason_and_replayed_once(client, make_key, emit, units):
    event = emit(_workload("wl_1"))
    with units.open(A) as uow:
        delivery = uow.session.execute(text("SELECT CAST(id AS text) FROM spine.deliveries"))
        deliveries.bury(uow.session, delivery.scalar_one(), "it broke", attempts=1)
    headers = make_key("events:read", "events:write")
    (letter,) = client.get("/api/v1/dead-letters", headers=headers).json()["data"]
    assert (letter["reason"], letter["event"]["id"]) == ("it broke", event)
    path = f"/api/v1/dead-letters/{letter['id']}/replay"
    theirs = client.post(path, headers=make_key(project="b"))
    assert _code(theirs) == (404, "dead_letter_not_found")
    replayed = client.post(path, headers=headers).json()
    assert _code(client.post(path, headers=headers)) == (404, "dead_letter_not_found")
    with units.open(A) as uow:
        rows = uow.session.execute(text("SELECT CAST(id AS text), task FROM spine.deliveries"))
        assert rows.all() == [(replayed["id"], "releases.install_base")]
    assert client.get("/api/v1/dead-letters", headers=headers).json()["data"] == []


def test_a_dead_letter_is_discarded_once_with_a_reason(client, make_key, emit, units):
    emit(_workload("wl_1"))
    with units.open(A) as uow:
        delivery = uow.session.execute(text("SELECT CAST(id AS text) FROM spine.deliveries"))
        deliveries.bury(uow.session, delivery.scalar_one(), "it broke", attempts=1)
    headers = make_key("events:read", "events:write", "audit:read")
    (letter,) = client.get("/api/v1/dead-letters", headers=headers).json()["data"]
    path = f"/api/v1/dead-letters/{letter['id']}"
    theirs = make_key(project="b")
    assert client.get(path, headers=headers).json() == letter
    assert _code(client.get(path, headers=theirs)) == (404, "dead_letter_not_found")
    reason = {"reason": "nobody needs it"}
    refused = client.post(f"{path}/discard", headers=theirs, json=reason)
    assert _code(refused) == (404, "dead_letter_not_found")
    for wrong in ({}, {"reason": ""}, {"reason": "x" * 301}):
        assert client.post(f"{path}/discard", headers=headers, json=wrong).status_code == 400
    gone = client.post(f"{path}/discard", headers=headers, json=reason)
    assert gone.json() == {"id": letter["id"], "object": "dead_letter", "discarded": True}
    again = client.post(f"{path}/discard", headers=headers, json=reason)
    assert _code(again) == (404, "dead_letter_not_found")
    query = "?action=dead_letter.discarded"
    (entry,) = client.get(f"/api/v1/audit{query}", headers=headers).json()["data"]
    assert (entry["subject"], entry["reason"]) == (letter["id"], "nobody needs it")
    assert entry["facts"] == {
        "task": "releases.install_base",
        "event": letter["event"]["id"],
        "type": "workload.created.v1",
        "buried_because": "it broke",
    }


def test_a_letter_of_the_queue_door_is_shown_and_not_replayed(client, make_key):
    with spine_units().open(A) as uow:
        envelope = Envelope.seal(_workload("wl_1"), A, uow.now)
        dead_letters.record(
            uow,
            uuid7(),
            queue="inference.door.a",
            task="inference.generate",
            envelope=envelope,
            reason="no request",
            starts=1,
        )
    headers = make_key()
    (letter,) = client.get("/api/v1/dead-letters", headers=headers).json()["data"]
    assert (letter["queue"], letter["task"]) == ("inference.door.a", "inference.generate")
    path = f"/api/v1/dead-letters/{letter['id']}"
    refused = client.post(f"{path}/replay", headers=headers)
    assert _code(refused) == (400, "dead_letter_not_replayable")
    assert client.post(f"{path}/discard", headers=headers, json={"reason": "seen"}).is_success


@pytest.fixture
def log(units):
    """Four entries of project a, one of b."""
    for context, action, subject in (
        (A, "release.started", "rel_1"),
        (A, "release.promoted", "rel_1"),
        (A, "releases.other", "rel_2"),
        (A, "job.created", "ftjob-1"),
        (B, "release.started", "rel_9"),
    ):
        with units.open(context) as uow:
            uow.audit(action, subject, reason="because", facts={"share": 0.5})


@pytest.mark.parametrize(
    ("query", "subjects"),
    [
        ("", ["ftjob-1", "rel_2", "rel_1", "rel_1"]),
        ("?order=asc", ["rel_1", "rel_1", "rel_2", "ftjob-1"]),
        ("?subject=rel_1&limit=1", ["rel_1"]),
        ("?action=release.", ["rel_1", "rel_1"]),
        ("?action=job.created", ["ftjob-1"]),
        ("?actor=nobody", []),
        ("?correlation_id={A}&actor=test", ["ftjob-1", "rel_2", "rel_1", "rel_1"]),
        ("?correlation_id={B}", []),
    ],
)
def test_the_audit_log_is_filtered_and_ordered(client, make_key, log, query, subjects):
    query = query.format(A=A.correlation_id, B=B.correlation_id)
    found = client.get(f"/api/v1/audit{query}", headers=make_key("audit:read")).json()["data"]
    assert [entry["subject"] for entry in found] == subjects
    assert all(entry["reason"] == "because" for entry in found)
    assert all(entry["facts"] == {"share": 0.5} for entry in found)


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_the_audit_log_is_read_page_by_page(client, make_key, log, order):
    headers, seen, after = make_key("audit:read"), [], ""
    while True:
        path = f"/api/v1/audit?limit=1&order={order}{after}"
        page = client.get(path, headers=headers).json()
        seen += [entry["action"] for entry in page["data"]]
        if not page["has_more"]:
            break
        after = f"&after={page['last_id']}"
    expected = ["release.started", "release.promoted", "releases.other", "job.created"]
    assert seen == (expected if order == "asc" else expected[::-1])
    unknown = client.get("/api/v1/audit?after=nothing", headers=headers)
    assert _code(unknown) == (400, "unknown_cursor")
