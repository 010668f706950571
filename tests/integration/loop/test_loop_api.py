"""The routes of the loop's rooms: what they answer, and what each refusal says."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from loop_rooms import BASE, KEYS

from shared.contracts.drift import FoldMonitor
from shared.contracts.feedback import CorrectionRecorded
from shared.contracts.releases import FoldCanary


def _create(client, **changes):
    body = {"name": "sorter", "base_model": BASE, **changes}
    return client.post("/api/v1/workloads", json=body)


def _release(client, **body):
    return client.post("/api/v1/releases", json={"workload": "extractor", **body})


def _error(answer, status):
    assert answer.status_code == status, answer.text
    return answer.json()["error"]


def test_workload_is_created_read_and_listed(loop, client, workload):
    made = _create(client, aliases=["ft:gpt-4o-mini:us::abc"], policy={"capture_content": True})
    assert made.status_code == 201
    body = made.json()
    assert (body["object"], body["policy_version"]) == ("workload", 1)
    assert body["policy"]["canary"]["margin"] == 0.05
    for name in ("sorter", body["id"], "ft:gpt-4o-mini:us::abc"):
        assert client.get(f"/api/v1/workloads/{name}").json() == body
    listed = client.get("/api/v1/workloads", params={"limit": 1}).json()
    assert [row["name"] for row in listed["data"]] == ["sorter"]
    assert listed["has_more"]
    rest = client.get("/api/v1/workloads", params={"after": listed["last_id"]}).json()
    assert [row["name"] for row in rest["data"]] == ["extractor"]


def test_aliases_are_replaced(loop, client, workload):
    _create(client, aliases=["ft:gpt-4o-mini:us::abc", "org/name"])
    put = client.put("/api/v1/workloads/sorter/aliases", json={"aliases": ["org/name", "new"]})
    assert put.json()["aliases"] == ["new", "org/name"]
    assert client.get("/api/v1/workloads/org/name").json()["name"] == "sorter"
    _error(client.get("/api/v1/workloads/ft:gpt-4o-mini:us::abc"), 404)
    taken = client.put("/api/v1/workloads/extractor/aliases", json={"aliases": ["mine", "new"]})
    assert _error(taken, 400)["code"] == "name_taken"
    assert client.get("/api/v1/workloads/extractor").json()["aliases"] == []


@pytest.mark.parametrize(
    ("changes", "status", "param", "code"),
    [
        ({"base_model": "gpt-4o"}, 404, "base_model", "model_not_found"),
        ({"name": "extractor"}, 400, "name", "name_taken"),
        ({"name": BASE}, 400, "name", "name_taken"),
        ({"name": "No Spaces"}, 400, "name", "invalid_value"),
        ({"aliases": ["extractor"]}, 400, "aliases", "name_taken"),
        ({"aliases": ["sorter"]}, 400, "aliases", "name_taken"),
        ({"policy": {"canary": {"shares": [0.25, 0.05]}}}, 400, "policy.canary.shares", None),
        ({"policy": {"canary": {"margin": 2}}}, 400, "policy.canary.margin", None),
        ({"policy": {"surprise": 1}}, 400, "policy.surprise", None),
        ({"policy": {"fallback_model": "gpt-4o"}}, 400, "policy.fallback_model", None),
        ({"unknown": 1}, 400, "unknown", None),
    ],
)
def test_workload_is_refused(loop, client, workload, changes, status, param, code):
    error = _error(_create(client, **changes), status)
    assert error["param"] == param
    assert code is None or error["code"] == code
    assert loop.value("SELECT count(*) FROM workloads.workloads") == 1


def test_unknown_base_is_refused_with_the_known_ones(client):
    assert BASE in _error(_create(client, base_model="gpt-4o"), 404)["message"]


def test_policy_is_replaced_as_a_new_version(client, workload):
    answer = client.put(
        "/api/v1/workloads/extractor/policy", json={"gate": {"min_exact_match": 0.9}}
    )
    assert answer.json()["policy_version"] == 2
    assert answer.json()["policy"]["gate"]["min_exact_match"] == 0.9
    assert _error(client.put("/api/v1/workloads/none/policy", json={}), 404)


def test_where_is_my_retraining(loop, client, workload):
    assert client.get("/api/v1/workloads/extractor/cycles").json()["data"] == []
    made = client.post("/api/v1/workloads/extractor/cycles", json={"reason": "new season"})
    assert made.status_code == 201
    loop.say(CorrectionRecorded(workload_id=workload, feedback_id="fb_1", waiting=12))
    [cycle] = client.get("/api/v1/workloads/extractor/cycles").json()["data"]
    assert (cycle["step"], cycle["waits_for"]) == ("dataset", "12 of 24 corrections")
    assert (cycle["trigger"], cycle["owner"]) == ("request", "key:owner")
    assert cycle["deadline"] - cycle["since"] == 7 * 86_400
    assert client.get(f"/api/v1/cycles/{cycle['id']}").json() == cycle
    error = _error(client.post("/api/v1/workloads/extractor/cycles"), 400)
    assert error["code"] == "cycle_open"
    assert cycle["id"] in error["message"]
    assert _error(client.get("/api/v1/cycles/cyc_none"), 404)["code"] == "cycle_not_found"
    assert _error(client.post("/api/v1/workloads/none/cycles"), 404)


def test_models_have_openai_shape(loop, client, workload):
    model = loop.add_model("one")
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [row["id"] for row in listed["data"]] == [BASE, model, "extractor"]
    assert client.get("/v1/models/extractor").json()["owned_by"] == loop.context.project
    found = client.get(f"/v1/models/{model}").json()
    assert found == {
        "id": model,
        "object": "model",
        "created": found["created"],
        "owned_by": loop.context.project,
        "shutdown_date": None,
    }
    assert client.get(f"/v1/models/{BASE}").json()["owned_by"] == "system"
    assert _error(client.get("/v1/models/gpt-4o"), 404)["code"] == "model_not_found"


def test_model_is_deleted_unless_something_needs_it(loop, client, workload):
    model, other = loop.add_model("one"), loop.add_model("two")
    assert client.delete(f"/v1/models/{other}").json() == {
        "id": other,
        "object": "model",
        "deleted": True,
    }
    assert _error(client.get(f"/v1/models/{other}"), 404)
    assert _error(client.delete(f"/v1/models/{other}"), 404)
    assert _error(client.delete(f"/v1/models/{BASE}"), 403)["type"] == "permission_error"
    _release(client, model=model, override={"reason": "a test"})
    loop.execute("UPDATE releases.releases SET state = 'superseded' WHERE state = 'live'")
    loop.execute("UPDATE releases.releases SET state = 'live' WHERE state = 'gated'")
    assert _error(client.delete(f"/v1/models/{model}"), 400)["code"] == "model_in_use"


def test_release_passes_the_gate_with_a_verdict(loop, client, workload):
    model = loop.add_model("one")
    made = _release(client, model=model, evaluation_id=loop.add_evaluation(model))
    assert made.status_code == 201
    body = made.json()
    assert (body["object"], body["state"], body["workload"]) == ("release", "gated", "extractor")
    loop.deliver()
    live = loop.live(workload).live_release
    loop.add_outcome(workload, body["id"], 1, arm="canary")
    loop.add_outcome(workload, live, 0)
    loop.say(FoldCanary(release_id=body["id"]))
    shown = client.get(f"/api/v1/releases/{body['id']}").json()
    assert (shown["state"], shown["share"]) == ("canary", 0.25)
    assert shown["outcomes"] == {
        "canary": {"count": 1, "rate": 1.0},
        "control": {"count": 1, "rate": 0.0},
    }
    assert shown["evidence"]["pairs"] == 1
    assert "0.05" in shown["guarantee"]
    rows = client.get("/api/v1/releases", params={"workload": "extractor"}).json()["data"]
    assert [row["id"] for row in rows] == [body["id"], live]
    again = client.get(f"/api/v1/releases/{body['id']}/recomputation").json()
    assert (again["is_equal"], again["verdict"]) == (True, "undecided")
    decisions = client.get(f"/api/v1/releases/{body['id']}/decisions").json()["data"]
    assert [row["verdict"] for row in decisions] == ["started"]


def test_release_by_override_keeps_the_reason(loop, client, workload):
    made = _release(client, model=loop.add_model("x"), override={"reason": "to see it fail"})
    assert made.json()["override_reason"] == "to see it fail"
    [entry] = loop.rows("SELECT * FROM spine.audit_entries WHERE action = 'gate.overridden'")
    assert (entry.reason, entry.actor) == ("to see it fail", "key:owner")


def test_gate_refuses(loop, client, workload):
    model = loop.add_model("one")
    failed = loop.add_evaluation(model, verdict="fail")
    other_model = loop.add_evaluation(loop.add_model("two"))
    other_workload = loop.add_evaluation(model, workload_id="wl_other")

    def refusal(status=400, **body):
        return _error(_release(client, **{"model": model, **body}), status)

    assert refusal(evaluation_id=failed)["code"] == "gate_failed"
    assert refusal(evaluation_id=other_model)["code"] == "gate_mismatch"
    assert refusal(evaluation_id=other_workload)["code"] == "gate_mismatch"
    assert refusal(404, evaluation_id="eval_none")["code"] == "evaluation_not_found"
    assert "either" in refusal()["message"]
    assert "either" in refusal(evaluation_id=failed, override={"reason": "both"})["message"]
    assert refusal(override={"reason": ""})["param"] == "override.reason"
    assert refusal(404, model="gpt-4o", override={"reason": "why not"})["param"] == "model"
    assert refusal(404, workload="none", override={"reason": "why not"})["code"] == (
        "workload_not_found"
    )
    assert refusal(model=BASE, override={"reason": "why not"})["code"] == "model_is_live"
    assert loop.value("SELECT count(*) FROM releases.releases") == 1


def test_second_release_is_refused_while_one_is_under_way(loop, client, workload):
    first = _release(client, model=loop.add_model("one"), override={"reason": "a test"}).json()
    error = _error(
        _release(client, model=loop.add_model("two"), override={"reason": "a test"}), 400
    )
    assert error["code"] == "release_in_progress"
    assert first["id"] in error["message"]


def test_rollback_by_hand(loop, client, workload):
    base_release = loop.live(workload).live_release
    release = _release(client, model=loop.add_model("one"), override={"reason": "a test"}).json()
    path = f"/api/v1/releases/{release['id']}/rollback"
    assert _error(client.post(path, json={}), 400)["param"] == "reason"
    answer = client.post(path, json={"reason": "second thoughts"}).json()
    assert (answer["state"], answer["reason"]) == ("rolled_back", "second thoughts")
    assert _error(client.post(path, json={"reason": "again"}), 400)
    error = _error(
        client.post(f"/api/v1/releases/{base_release}/rollback", json={"reason": "bad"}), 400
    )
    assert error["code"] == "nothing_before"
    assert _error(client.post("/api/v1/releases/rel_x/rollback", json={"reason": "bad"}), 404)
    assert _error(client.get(f"/api/v1/releases/{base_release}/recomputation"), 400)
    loop.deliver()
    assert loop.live(workload).live_release == base_release


def test_monitors_and_alerts_are_shown_with_their_evidence(loop, client, workload):
    release = loop.live(workload).live_release
    for success in [1] * 40 + [0] * 30:
        loop.add_outcome(workload, release, success)
    monitor = loop.value("SELECT monitor_id FROM drift.monitors WHERE metric = 'failure'")
    shown = client.get("/api/v1/monitors", params={"workload": "extractor"}).json()["data"]
    assert {(row["state"], row["values"], row["baseline_outcomes"]) for row in shown} == {
        ("baseline", 0, 30)
    }
    loop.say(FoldMonitor(monitor_id=monitor))
    [row] = [r for r in client.get("/api/v1/monitors").json()["data"] if r["id"] == monitor]
    assert (row["state"], row["baseline"]["n"]) == ("alarmed", 30)
    assert row["statistic"] >= row["threshold"]
    [alert] = client.get("/api/v1/alerts", params={"workload": "extractor"}).json()["data"]
    assert alert["requests_until_alert"] <= 15
    assert alert["evidence"]["baseline_rate"] == 0
    assert _error(client.get("/api/v1/alerts", params={"workload": "none"}), 404)


def test_another_project_finds_nothing(loop, client, other_client, workload):
    release = loop.live(workload).live_release
    model = loop.add_model("one")
    for path in (
        "/api/v1/workloads/extractor",
        f"/api/v1/workloads/{workload}/cycles",
        f"/api/v1/releases/{release}",
        f"/v1/models/{model}",
    ):
        assert client.get(path).status_code == 200
        assert other_client.get(path).status_code == 404
    for path in ("workloads", "releases", "monitors", "alerts"):
        assert other_client.get(f"/api/v1/{path}").json()["data"] == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/workloads"),
        ("GET", "/api/v1/workloads"),
        ("PUT", "/api/v1/workloads/x/policy"),
        ("POST", "/api/v1/workloads/x/cycles"),
        ("GET", "/api/v1/cycles/x"),
        ("GET", "/v1/models"),
        ("DELETE", "/v1/models/x"),
        ("POST", "/api/v1/releases"),
        ("POST", "/api/v1/releases/x/rollback"),
        ("GET", "/api/v1/monitors"),
        ("GET", "/api/v1/alerts"),
    ],
)
def test_key_without_the_scope_is_refused(app, method, path):
    client = TestClient(app, headers={"authorization": f"Bearer {KEYS['nobody']}"})
    assert _error(client.request(method, path, json={}), 403)["code"] == "missing_scope"
