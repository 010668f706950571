"""Every command against a real HTTP server: what it asks, what it prints, how it fails."""

from __future__ import annotations

import json
import socket

import pytest

RELEASE = {
    "id": "rel_1",
    "workload": "w",
    "model": "ft:a",
    "state": "live",
    "share": 1.0,
    "reason": "Not worse.",
    "created_at": 1_700_000_000,
    "settled_at": None,
}
CYCLE = {
    "id": "cyc_1",
    "workload": "w",
    "step": "dataset",
    "state": "open",
    "since": 1_700_000_000,
    "waits_for": "3 of 36 corrections",
    "outcome": None,
    "reason": None,
}
LETTER = {
    "id": "dl_1",
    "queue": "drift",
    "task": "drift.fold",
    "event": {"id": "evt_1", "type": "drift.fold.v1", "subject": "mon_1"},
    "reason": "it broke",
    "last_error": None,
    "attempts": 8,
    "created_at": 1_700_000_000,
    "buried_at": 1_700_000_000,
}
RETIREMENT = {
    "object": "retirement",
    "model": "ft:gpt-4o-mini:acme::abc",
    "shutdown_date": "2027-01-14",
    "set_date": "2027-01-14",
    "days_left": 49,
    "announced": [90],
    "workloads": ["extractor"],
}
JOB = {
    "id": "ftjob-1",
    "object": "fine_tuning.job",
    "created_at": 1_700_000_000,
    "status": "running",
    "model": "base",
    "fine_tuned_model": None,
}


def page(*rows, has_more=False):
    ids = [row["id"] for row in rows] or [None]
    return {"data": list(rows), "has_more": has_more, "first_id": ids[0], "last_id": ids[-1]}


def test_lists_are_tables_with_times_or_json(stub, perpetune):
    stub.will_answer("GET", "/api/v1/releases", page(RELEASE))
    code, out, _ = perpetune("releases", "list", "--workload", "w")
    assert code == 0
    assert "rel_1" in out
    assert "2023-11-14 22:13:20" in out
    method, path, _, authorization = stub.asked[-1]
    assert (method, path) == ("GET", "/api/v1/releases?workload=w&limit=20")
    assert authorization == "Bearer ppt_stub_0"
    code, out, _ = perpetune("releases", "list", "--json")
    assert json.loads(out) == [RELEASE]


@pytest.mark.parametrize(
    ("command", "path", "empty"),
    [
        (("releases", "list"), "/api/v1/releases", "There is no release yet."),
        (("retirements", "list"), "/api/v1/retirements", "No model ends, as far as was said."),
        (("alerts",), "/api/v1/alerts", "No alert so far."),
        (("events",), "/api/v1/events", "No event so far."),
        (("audit",), "/api/v1/audit", "No entry."),
        (("key", "list"), "/api/v1/keys", "There is no key."),
        (("workloads", "list"), "/api/v1/workloads", "There is no workload yet."),
        (("dead-letters", "list"), "/api/v1/dead-letters", "There is no dead letter."),
        (("cycles",), "/api/v1/workloads", "There was no retraining yet."),
        (("jobs", "list"), "/v1/fine_tuning/jobs", "There is no job yet."),
    ],
)
def test_empty_lists_say_so_and_are_empty_json(stub, perpetune, command, path, empty):
    stub.will_answer("GET", path, page())
    assert perpetune(*command) == (0, empty + "\n", "")
    code, out, _ = perpetune(*command, "--json")
    assert (code, json.loads(out)) == (0, [])


def test_release_is_shown_with_its_decisions(stub, perpetune):
    decision = {"created_at": 1, "verdict": "promote", "share": 1.0, "reason": "r", "actor": "a"}
    stub.will_answer("GET", "/api/v1/releases/rel_1", RELEASE)
    stub.will_answer("GET", "/api/v1/releases/rel_1/decisions", {"data": [decision]})
    _, out, _ = perpetune("releases", "show", "rel_1")
    assert "promote" in out
    _, out, _ = perpetune("releases", "show", "rel_1", "--json")
    assert json.loads(out) == {**RELEASE, "decisions": [decision]}


def test_rollback_sends_its_reason_and_needs_one(stub, perpetune):
    settled = {**RELEASE, "state": "rolled_back"}
    stub.will_answer("POST", "/api/v1/releases/rel_1/rollback", settled)
    code, out, _ = perpetune("releases", "rollback", "rel_1", "--reason", "wrong")
    assert (code, out) == (0, "rel_1 is rolled back\n")
    assert stub.asked[-1][2] == {"reason": "wrong"}
    asked = len(stub.asked)
    assert perpetune("releases", "rollback", "rel_1")[0] == 2
    assert len(stub.asked) == asked


def test_release_is_started_after_an_evaluation_or_for_a_reason(stub, perpetune):
    stub.will_answer("POST", "/api/v1/releases", RELEASE, 201)
    command = ("releases", "start", "w", "ft:a")
    assert json.loads(perpetune(*command, "--evaluation", "eval_1", "--json")[1]) == RELEASE
    named = {"workload": "w", "model": "ft:a", "evaluation_id": "eval_1", "override": None}
    assert stub.asked[-1][2] == named
    assert "rel_1" in perpetune(*command, "--override", "seen by hand")[1]
    overridden = {"evaluation_id": None, "override": {"reason": "seen by hand"}}
    assert stub.asked[-1][2] == named | overridden


def test_workload_is_made_shown_and_given_other_names(stub, perpetune):
    workload = {"id": "wl_1", "name": "w", "aliases": ["ft:old"], "base_model": "base"}
    stub.will_answer("POST", "/api/v1/workloads", workload, 201)
    stub.will_answer("GET", "/api/v1/releases", page(RELEASE))
    made = perpetune("workloads", "create", "w", "--base", "base", "--alias", "ft:old", "--json")
    assert json.loads(made[1]) == workload
    assert stub.asked[-2][2] == {"name": "w", "base_model": "base", "aliases": ["ft:old"]}
    assert stub.asked[-1][1] == "/api/v1/releases?workload=wl_1"
    stub.will_answer("GET", "/api/v1/workloads/ft%3Aold", workload)
    assert "wl_1" in perpetune("workloads", "show", "ft:old")[1]
    stub.will_answer("PUT", "/api/v1/workloads/w/aliases", workload)
    assert "ft:old" in perpetune("workloads", "alias", "w", "ft:old", "ft:older")[1]
    assert stub.asked[-1][2] == {"aliases": ["ft:old", "ft:older"]}
    assert perpetune("workloads", "alias", "w")[0] == 0
    assert stub.asked[-1][2] == {"aliases": []}


def test_dead_letters_are_listed_and_shown(stub, perpetune):
    stub.will_answer("GET", "/api/v1/dead-letters", page(LETTER))
    _, out, _ = perpetune("dead-letters", "list", "--limit", "5")
    for shown in ("dl_1", "drift.fold", "drift.fold.v1", "mon_1", "it broke"):
        assert shown in out
    assert stub.asked[-1][1] == "/api/v1/dead-letters?limit=5"
    assert json.loads(perpetune("dead-letters", "list", "--json")[1]) == [LETTER]
    stub.will_answer("GET", "/api/v1/dead-letters/dl_1", LETTER)
    assert "it broke" in perpetune("dead-letters", "show", "dl_1")[1]
    assert json.loads(perpetune("dead-letters", "show", "dl_1", "--json")[1]) == LETTER


@pytest.mark.parametrize("event", [[], None, {}, "text"])
def test_a_dead_letter_that_holds_no_event_is_listed_and_shown(stub, perpetune, event):
    letter = {**LETTER, "event": event}
    stub.will_answer("GET", "/api/v1/dead-letters", page(letter))
    assert LETTER["id"] in perpetune("dead-letters", "list")[1]
    stub.will_answer("GET", "/api/v1/dead-letters/dl_1", letter)
    assert "it broke" in perpetune("dead-letters", "show", "dl_1")[1]


def test_dead_letter_is_replayed_or_discarded_with_a_reason(stub, perpetune):
    replayed = {"id": "new", "object": "delivery", "dead_letter": "dl_1"}
    stub.will_answer("POST", "/api/v1/dead-letters/dl_1/replay", replayed)
    code, out, _ = perpetune("dead-letters", "replay", "dl_1")
    assert (code, out) == (0, "dl_1 is due again as delivery new\n")
    assert json.loads(perpetune("dead-letters", "replay", "dl_1", "--json")[1]) == replayed
    asked = len(stub.asked)
    assert perpetune("dead-letters", "discard", "dl_1")[0] == 2
    assert len(stub.asked) == asked
    discarded = {"id": "dl_1", "object": "dead_letter", "discarded": True}
    stub.will_answer("POST", "/api/v1/dead-letters/dl_1/discard", discarded)
    command = ("dead-letters", "discard", "dl_1", "--reason", "a mistake")
    assert perpetune(*command) == (0, "dl_1 is discarded\n", "")
    assert stub.asked[-1][2] == {"reason": "a mistake"}
    assert json.loads(perpetune(*command, "--json")[1]) == discarded


def test_cycles_say_what_they_wait_for_over_all_workloads(stub, perpetune):
    stub.will_answer("GET", "/api/v1/workloads", page({"id": "wl_1", "name": "w"}))
    stub.will_answer("GET", "/api/v1/workloads/w/cycles", page(CYCLE))
    code, out, _ = perpetune("cycles")
    assert code == 0
    assert "3 of 36 corrections" in out
    _, out, _ = perpetune("cycles", "w", "--json")
    assert json.loads(out) == [CYCLE]


def test_names_are_escaped_in_paths(stub, perpetune):
    stub.will_answer("GET", "/api/v1/workloads/ft%3Aa%2Fb/cycles", page())
    assert perpetune("cycles", "ft:a/b")[0] == 0


def test_jobs_are_asked_for_with_openais_client(stub, perpetune):
    stub.will_answer("GET", "/v1/fine_tuning/jobs/ftjob-1", JOB)
    stub.will_answer("POST", "/v1/fine_tuning/jobs/ftjob-1/cancel", {**JOB, "status": "cancelled"})
    events = [
        {"id": f"e{n}", "created_at": n, "level": "info", "message": f"m{n}", "object": "x"}
        for n in (2, 1)
    ]
    stub.will_answer("GET", "/v1/fine_tuning/jobs/ftjob-1/events", page(*events))
    assert json.loads(perpetune("jobs", "show", "ftjob-1", "--json")[1])["status"] == "running"
    assert json.loads(perpetune("jobs", "cancel", "ftjob-1", "--json")[1])["status"] == "cancelled"
    shown = json.loads(perpetune("jobs", "events", "ftjob-1", "--json")[1])
    assert [event["message"] for event in shown] == ["m1", "m2"]


def test_keys_are_made_with_all_scopes_or_those_named(stub, perpetune):
    stub.will_answer("POST", "/api/v1/keys", {"id": "k", "key": "ppt_k_new"})
    assert perpetune("key", "make", "ci")[1] == "ppt_k_new\n"
    assert "jobs:write" in stub.asked[-1][2]["scopes"]
    perpetune("key", "make", "ci", "--scope", "jobs:read", "--days", "7")
    assert stub.asked[-1][2] == {"name": "ci", "scopes": ["jobs:read"], "expires_in_days": 7}
    stub.will_answer("DELETE", "/api/v1/keys/k", {"id": "k"})
    assert perpetune("key", "revoke", "k")[1] == "k is revoked\n"


def test_key_is_the_option_then_the_environment_then_the_local_file(
    stub, perpetune, monkeypatch, tmp_path
):
    assert perpetune("--key", "ppt_given_0", "key", "show")[1] == "ppt_given_0\n"
    assert perpetune("key", "show")[1] == "ppt_stub_0\n"
    monkeypatch.delenv("PERPETUNE_API_KEY")
    code, _, err = perpetune("key", "show")
    assert code == 1
    assert "perpetune up" in err
    secrets = tmp_path / "home" / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "api_key").write_text("ppt_file_0\n")
    assert perpetune("key", "show")[1] == "ppt_file_0\n"


def test_audit_passes_its_filters_on(stub, perpetune):
    stub.will_answer("GET", "/api/v1/audit", page())
    perpetune("audit", "--action", "release.", "--subject", "rel_1", "--limit", "7", "--oldest")
    assert stub.asked[-1][1] == "/api/v1/audit?subject=rel_1&action=release.&limit=7&order=asc"


def test_events_of_all_pages_are_listed(stub, perpetune):
    first = {"id": "evt_1", "type": "job.created.v1", "time": "t1", "subject": "a"}
    stub.will_answer("GET", "/api/v1/events", page(first))
    _, out, _ = perpetune("events", "--types", "job.created.v1", "--after", "evt_0")
    assert "evt_1" in out
    path = stub.asked[-1][1]
    assert path == "/api/v1/events?limit=100&after=evt_0&types=job.created.v1"


def test_status_of_a_server_that_is_not_ready_fails_and_says_what_is_missing(stub, perpetune):
    stub.will_answer("GET", "/readyz", {"status": "not_ready", "missing": ["No Postgres."]}, 503)
    code, out, _ = perpetune("status")
    assert code == 1
    assert "not ready" in out
    assert "No Postgres." in out


def test_status_shows_where_each_workload_stands(stub, perpetune):
    stub.will_answer("GET", "/readyz", {"status": "ready", "missing": []})
    stub.will_answer("GET", "/api/v1/workloads", page({"id": "wl_1", "name": "w"}))
    canary = {**RELEASE, "id": "rel_2", "state": "canary", "model": "ft:b", "share": 0.25}
    stub.will_answer("GET", "/api/v1/releases", page(canary, RELEASE))
    stub.will_answer("GET", "/api/v1/workloads/w/cycles", page(CYCLE))
    stub.will_answer("GET", "/api/v1/alerts", page())
    stub.will_answer("GET", "/api/v1/retirements", {"data": []})
    code, out, _ = perpetune("status", "--json")
    assert code == 0
    assert json.loads(out)["workloads"] == [
        {
            "name": "w",
            "live_model": "ft:a",
            "canary": "ft:b at 25%",
            "retraining": "dataset: 3 of 36 corrections",
            "alerts": 0,
        }
    ]
    told = perpetune("status")[1]
    assert "ft:b at 25%" in told
    assert "Models that end" not in told


def test_status_shows_what_ends_within_90_days(stub, perpetune):
    stub.will_answer("GET", "/readyz", {"status": "ready", "missing": []})
    stub.will_answer("GET", "/api/v1/workloads", page())
    stub.will_answer("GET", "/api/v1/retirements", {"data": [RETIREMENT]})
    out = perpetune("status")[1]
    assert stub.asked[-1][1] == "/api/v1/retirements?within_days=90"
    assert "Models that end within 90 days" in out
    assert all(part in out for part in ("ft:gpt-4o-mini:acme::abc", "2027-01-14", "extractor"))
    assert json.loads(perpetune("status", "--json")[1])["retirements"] == [RETIREMENT]


def test_ends_of_models_are_set_listed_and_removed(stub, perpetune):
    model = RETIREMENT["model"]
    path = "/api/v1/retirements/ft%3Agpt-4o-mini%3Aacme%3A%3Aabc"
    stub.will_answer("PUT", path, RETIREMENT)
    stub.will_answer("GET", "/api/v1/retirements", {"data": [RETIREMENT]})
    stub.will_answer("DELETE", path, {"object": "retirement", "model": model, "deleted": True})
    code, out, _ = perpetune("retirements", "set", model, "2027-01-14")
    assert code == 0
    assert stub.asked[-1][:3] == ("PUT", path, {"shutdown_date": "2027-01-14"})
    assert "2027-01-14" in out
    assert "extractor" in perpetune("retirements", "list")[1]
    assert json.loads(perpetune("retirements", "list", "--json")[1]) == [RETIREMENT]
    assert perpetune("retirements", "remove", model)[1] == f"{model} does not end any more\n"
    assert perpetune("retirements", "set", model, "soon")[0] == 2


@pytest.mark.parametrize(
    ("command", "path"),
    [
        (("releases", "show", "rel_9"), "/api/v1/releases/rel_9"),
        (("jobs", "show", "ftjob-9"), "/v1/fine_tuning/jobs/ftjob-9"),
    ],
)
def test_refusal_of_the_api_is_one_line_with_its_code_and_route(stub, perpetune, command, path):
    error = {"message": "There is no such thing.", "type": "x", "param": None, "code": "not_found"}
    stub.will_answer("GET", path, {"error": error}, 404)
    code, out, err = perpetune(*command)
    assert (code, out) == (1, "")
    assert err == f"There is no such thing. (not_found, GET {path})\n"


def test_answer_that_is_no_json_is_reported_with_its_status(stub, perpetune):
    stub.will_answer("GET", "/api/v1/alerts", b"<html>", 502)
    code, _, err = perpetune("alerts")
    assert code == 1
    assert err == "GET /api/v1/alerts was answered with HTTP 502 and no explanation.\n"


@pytest.mark.parametrize("command", [("alerts",), ("status",), ("releases", "list")])
def test_server_that_is_not_there_says_how_to_start_the_stack(perpetune, command):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        code, out, err = perpetune("--url", url, *command)
    assert (code, out) == (1, "")
    assert url in err
    assert "perpetune up" in err
    assert err.count("\n") == 1


def test_address_that_is_no_url_is_named(perpetune):
    code, _, err = perpetune("--url", "http://a:b", "alerts")
    assert code == 1
    assert "no URL" in err


def test_demonstration_on_another_server_is_refused_before_anything_starts(stub, perpetune):
    code, _, err = perpetune("demo", "--exit")
    assert code == 1
    assert "runs on the local stack" in err
    assert stub.asked == []


def test_version_is_printed(perpetune):
    code, out, _ = perpetune("version", "--json")
    assert code == 0
    assert json.loads(out)["version"].count(".") == 2
