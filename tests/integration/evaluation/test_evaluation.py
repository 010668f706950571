"""An evaluation from the request to its verdict."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from model_stand_in import BASE, TUNED, key_of

from services.evaluation.general import paragraphs
from shared.contracts.evaluation import ContinueEvaluation, StartEvaluation
from shared.rendering.bases import find_base

ROUTE = "/api/v1/evaluations"


def _answer(number: int) -> str:
    return json.dumps({"city": f"City {number}", "price": number})


def _row(number: int) -> dict:
    return {
        "messages": [
            {"role": "user", "content": f"Listing {number}."},
            {"role": "assistant", "content": _answer(number)},
        ]
    }


def _right(prompt: str) -> str:
    return _answer(int(re.search(r"Listing (\d+)", prompt)[1]))


def _half_right(prompt: str) -> str:
    return json.dumps({**json.loads(_right(prompt)), "price": "unknown"})


@pytest.fixture
def rows():
    return [_row(number) for number in range(15)]


@pytest.fixture
def models(room, stand_in):
    """A tuned model that knows the answers, and a base that knows half of each."""
    room.register()
    stand_in.answers = {TUNED: _right, BASE: _half_right}


def _create(room, rows, **body):
    return room.client.post(ROUTE, json={"model": TUNED, "file_id": room.upload(rows), **body})


def _evaluated(room, rows, **body):
    created = _create(room, rows, **body)
    assert created.status_code == 200, created.text
    assert (created.json()["state"], created.json()["verdict"]) == ("queued", None)
    room.run()
    return room.client.get(f"{ROUTE}/{created.json()['id']}").json()


def test_a_tuned_model_is_compared_with_its_base(room, models, stand_in, rows):
    # Worse on general text than its base, by a factor that the gate allows.
    stand_in.nll = lambda adapter: 0.5 if adapter else 0.4
    found = _evaluated(room, rows)
    assert (found["state"], found["verdict"], found["cases"]) == ("completed", "pass", 15)
    assert (found["baseline"], found["policy_version"], found["workload_id"]) == (BASE, None, None)
    candidate, baseline = found["metrics"]["candidate"], found["metrics"]["baseline"]
    assert candidate["exact_match"]["estimate"] == 1.0
    assert candidate["exact_match"]["low"] == pytest.approx(0.796, abs=1e-3)  # Wilson, 15 of 15
    assert baseline["exact_match"]["estimate"] == 0.0
    assert {name: e["estimate"] for name, e in baseline["fields"].items()} == {
        "city": 1.0,
        "price": 0.0,
    }
    assert baseline["field_accuracy"]["estimate"] == 0.5
    assert candidate["target_perplexity"]["estimate"] == pytest.approx(math.exp(0.5))
    assert baseline["general_perplexity"]["estimate"] == pytest.approx(math.exp(0.4))
    assert found["metrics"]["exact_difference"]["estimate"] == 1.0
    assert found["metrics"]["general_ratio"]["estimate"] == pytest.approx(math.exp(0.1))
    assert candidate["output_tokens"] > 0 < candidate["input_tokens"]
    assert [rule["passed"] for rule in found["rules"]] == [True, True, True]


def test_everybody_who_waits_is_told_with_numbers(room, models, rows):
    found = _evaluated(room, rows[:3])
    (fact,) = room.completed()
    assert fact["evaluation_id"] == found["id"]
    assert (fact["verdict"], fact["reason"]) == ("pass", found["reason"])
    started, completed = room.audited()
    assert (started.action, started.facts["cases"]) == ("evaluation.started", 3)
    assert (completed.action, completed.subject) == ("evaluation.completed", found["id"])
    assert completed.facts["exact_match"]["estimate"] == 1.0
    assert {rule["rule"] for rule in completed.facts["rules"]} == {
        "max_regression",
        "min_exact_match",
        "max_general_perplexity_ratio",
    }
    ((verdict, model),) = room.rows("SELECT verdict, model FROM evaluation.verdicts_v1")
    assert (verdict, model) == ("pass", TUNED)


def test_the_server_gets_greedy_prompts_and_both_kinds_of_adapter(room, models, stand_in, rows):
    _evaluated(room, rows[:2])
    loads = {body["model"]: body for path, body in stand_in.requests if path == "/v1/load"}
    assert Path(loads[TUNED]["adapter"]).read_bytes() == b"gguf"
    assert loads[BASE]["adapter"] is None
    for path, body in stand_in.requests:
        if path.endswith("/completion"):
            assert body["temperature"] == 0
            assert 17 <= body["n_predict"] <= 100  # half as long again as the expected answers
    scored = {body["adapter"] for path, body in stand_in.requests if path == "/v1/score"}
    assert None in scored
    (folder,) = scored - {None}
    assert Path(folder, "adapter_config.json").read_text() == TUNED


def test_cases_are_listed_side_by_side_in_pages(room, models, rows):
    found = _evaluated(room, rows)
    seen, after = [], 0
    while True:
        page = room.client.get(
            f"{ROUTE}/{found['id']}/cases", params={"limit": 4, "after": after}
        ).json()
        seen += page["data"]
        if not page["has_more"]:
            break
        after = page["last_id"]
    assert [case["line"] for case in seen] == list(range(1, 16))
    assert seen[3]["expected"] == _answer(3)
    assert (seen[3]["candidate"]["answer"], seen[3]["candidate"]["exact"]) == (_answer(3), True)
    assert seen[3]["baseline"]["fields"] == {"city": True, "price": False}
    assert seen[3]["baseline"]["latency_ms"] > 0


def test_the_policy_of_the_workload_decides(room, models, stand_in, rows):
    stand_in.answers[TUNED] = _half_right
    room.create_workload("strict", {"min_exact_match": 0.9})
    found = _evaluated(room, rows, workload="strict")
    assert (found["verdict"], found["workload_id"], found["policy_version"]) == (
        "fail",
        "wl_strict",
        3,
    )
    assert [rule["rule"] for rule in found["rules"] if not rule["passed"]] == ["min_exact_match"]
    assert "at least 90.0%" in found["reason"]


def test_a_model_that_is_worse_than_the_baseline_fails(room, models, stand_in, rows):
    room.register("ft:live")
    stand_in.answers |= {"ft:live": _right, TUNED: _half_right}
    found = _evaluated(room, rows, baseline="ft:live")
    assert [rule["rule"] for rule in found["rules"] if not rule["passed"]] == ["max_regression"]


def test_a_model_that_forgot_too_much_fails(room, models, stand_in, rows):
    stand_in.nll = lambda adapter: 2.5 if adapter else 2.0
    found = _evaluated(room, rows[:2])
    failed = [rule["rule"] for rule in found["rules"] if not rule["passed"]]
    assert failed == ["max_general_perplexity_ratio"]
    assert found["metrics"]["general_ratio"]["estimate"] == pytest.approx(math.exp(0.5))


def test_the_general_text_is_read_in_parts_and_once_by_every_model(make_room, stand_in, rows):
    room = make_room(stand_in.url, score_tokens_per_step=500)
    room.register()
    stand_in.answers = {TUNED: _right, BASE: _half_right}
    _evaluated(room, rows[:1])
    read = {None: [], "tuned": []}
    for path, body in stand_in.requests:
        # A paragraph has no prompt: all but its first token are scored.
        if path == "/v1/score" and all(sum(s["scored"]) > 50 for s in body["sequences"]):
            read["tuned" if body["adapter"] else None].append(
                [sequence["token_ids"] for sequence in body["sequences"]]
            )
    for parts in read.values():
        assert len(parts) > 1
        assert [tuple(ids) for part in parts for ids in part] == list(paragraphs(find_base(BASE)))


def test_a_base_alone_has_no_baseline(room, models, rows):
    found = _evaluated(room, rows[:2], model=BASE)
    assert (found["baseline"], found["metrics"]["baseline"]) == (None, None)
    assert found["metrics"]["general_ratio"]["estimate"] == 1.0
    assert len(found["rules"]) == 2
    case = room.client.get(f"{ROUTE}/{found['id']}/cases").json()["data"][0]
    assert case["baseline"] is None


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"file_id": "file-none"}, 404, "file_not_found", "file_id"),
        ({"model": "ft:none"}, 404, "model_not_found", "model"),
        ({"baseline": "ft:none"}, 404, "model_not_found", "baseline"),
        ({"baseline": TUNED}, 400, "same_model", "baseline"),
        ({"baseline": "ft:foreign"}, 400, "different_bases", "baseline"),
        ({"model": "ft:foreign"}, 404, "model_not_found", "baseline"),
        ({"workload": "none"}, 404, "workload_not_found", None),
        ({"model": ""}, 400, "invalid_value", "model"),
        ({"model": None}, 400, "invalid_value", "model"),
        ({"file_id": None}, 400, "invalid_value", "file_id"),
        ({"suite": "x"}, 400, "invalid_value", "suite"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_left(room, models, rows, body, status, code, param):
    room.register("ft:foreign", base="another-1b")
    refused = _create(room, rows, **body)
    assert refused.status_code == status, refused.text
    assert (refused.json()["error"]["code"], refused.json()["error"]["param"]) == (code, param)
    assert room.rows("SELECT 1 FROM evaluation.evaluations") == []
    assert room.due() == []


@pytest.mark.parametrize(
    ("rows", "purpose", "code", "words"),
    [
        ([_row(0)], "batch", "invalid_purpose", "'batch'"),
        ([""], "evals", "too_few_cases", "no rows"),
        ([_row(n) for n in range(41)], "evals", "too_many_cases", "40"),
        ([_row(0), "{"], "evals", "invalid_evaluation_file", "Line 2"),
        ([_row(0), "", {"messages": []}], "evals", "invalid_evaluation_file", "Line 3"),
        ([{"prompt": "a", "completion": "b"}], "fine-tune", "invalid_evaluation_file", "Line 1"),
    ],
)
def test_a_file_that_holds_no_cases_is_refused(room, models, rows, purpose, code, words):
    file_id = room.upload(rows, purpose)
    refused = room.client.post(ROUTE, json={"model": TUNED, "file_id": file_id})
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (400, code, "file_id")
    assert words in error["message"]
    assert room.rows("SELECT 1 FROM evaluation.evaluations") == []


def test_keys_open_only_what_they_may(room, models, rows):
    found = _create(room, rows[:1]).json()
    reader = {"authorization": f"Bearer {key_of('reader')}"}
    refused = room.client.post(ROUTE, json={"model": BASE, "file_id": "f"}, headers=reader)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "missing_scope")
    assert room.client.get(ROUTE, headers={"authorization": ""}).status_code == 401
    another = {"authorization": f"Bearer {key_of('another')}"}
    for path in (f"{ROUTE}/{found['id']}", f"{ROUTE}/{found['id']}/cases", f"{ROUTE}/eval_none"):
        refused = room.client.get(path, headers=another)
        assert (refused.status_code, refused.json()["error"]["code"]) == (
            404,
            "evaluation_not_found",
        )
    assert room.client.get(ROUTE, headers=another).json()["data"] == []


def test_evaluations_are_listed_newest_first_in_pages(room, models, rows):
    room.create_workload("one", {})
    ids = [_create(room, rows[:1]).json()["id"] for _ in range(3)]
    of_workload = _create(room, rows[:1], workload="one").json()["id"]
    first = room.client.get(ROUTE, params={"limit": 3}).json()
    assert [item["id"] for item in first["data"]] == [of_workload, ids[2], ids[1]]
    rest = room.client.get(ROUTE, params={"limit": 3, "after": first["last_id"]}).json()
    assert ([item["id"] for item in rest["data"]], rest["has_more"]) == ([ids[0]], False)
    listed = room.client.get(ROUTE, params={"workload": "one"}).json()["data"]
    assert [item["id"] for item in listed] == [of_workload]
    assert room.client.get(ROUTE, params={"workload": "none"}).status_code == 404


def test_answers_that_take_too_long_are_left_to_the_next_step(room, models, stand_in, rows):
    slow = iter([3.0])
    stand_in.seconds = lambda prompt: next(slow, 0.0) if "Listing 1." in prompt else 0.0
    found = _evaluated(room, rows[:3])
    assert (found["state"], found["verdict"]) == ("completed", "pass")
    answered = [body for path, body in stand_in.requests if path.endswith("/completion")]
    assert len(answered) == 7  # six, and the slow one again
    assert found["metrics"]["candidate"]["exact_match"]["estimate"] == 1.0


def test_without_any_answer_fewer_are_asked_for_and_at_last_it_fails(room, models, stand_in, rows):
    stand_in.seconds = lambda prompt: 2.5
    created = _create(room, rows).json()
    sizes = []
    for _ in range(3):
        before = len(stand_in.requests)
        room.ring()
        sizes.append(sum(path.endswith("/completion") for path, _ in stand_in.requests[before:]))
    assert sizes == [4, 2, 1]
    found = room.client.get(f"{ROUTE}/{created['id']}").json()
    assert (found["state"], found["verdict"], found["error_code"]) == (
        "failed",
        "fail",
        "answers_too_slow",
    )
    assert room.completed()[0]["verdict"] == "fail"
    assert [entry.action for entry in room.audited()] == ["evaluation.started", "evaluation.failed"]


def test_a_model_server_that_comes_back_is_waited_for(room, models, stand_in, rows):
    stand_in.is_away = True
    created = _create(room, rows[:1]).json()
    room.ring()
    (due,) = room.due()
    assert (due.starts, "server_closing" in due.last_error) == (1, True)
    stand_in.is_away = False
    room.run()
    assert room.client.get(f"{ROUTE}/{created['id']}").json()["verdict"] == "pass"


def test_a_refused_prompt_counts_as_wrong(room, models, stand_in, rows):
    stand_in.answers[TUNED] = lambda prompt: None if "Listing 1." in prompt else _right(prompt)
    found = _evaluated(room, rows[:4])
    assert found["metrics"]["candidate"]["failed_answers"] == 1
    assert found["metrics"]["candidate"]["exact_match"]["estimate"] == 0.75
    case = room.client.get(f"{ROUTE}/{found['id']}/cases").json()["data"][1]["candidate"]
    assert (case["answer"], case["exact"], case["error"]) == (None, False, "prompt_refused")


def test_a_model_deleted_meanwhile_ends_the_evaluation(room, models, rows):
    created = _create(room, rows).json()
    room.ring()
    room.rows("UPDATE releases.models SET deleted_at = now()")
    room.run()
    found = room.client.get(f"{ROUTE}/{created['id']}").json()
    assert (found["state"], found["error_code"]) == ("failed", "model_not_found")


def test_a_broken_adapter_ends_the_evaluation(room, stand_in, rows):
    room.register(peft=b"no tar at all")
    stand_in.answers[BASE] = lambda _prompt: "{}"
    created = _create(room, rows[:1]).json()
    room.run()
    found = room.client.get(f"{ROUTE}/{created['id']}").json()
    assert (found["state"], found["error_code"]) == ("failed", "adapter_corrupt")
    assert room.due() == []


def test_an_out_of_date_step_does_nothing(room, models, stand_in, rows):
    found = _evaluated(room, rows[:2])
    asked = len(stand_in.requests)
    for position in (0, 99):
        room.emit(ContinueEvaluation(evaluation_id=found["id"], position=position))
    room.run()
    assert len(stand_in.requests) == asked
    assert room.client.get(f"{ROUTE}/{found['id']}").json() == found
    assert len(room.completed()) == 1


def _command(room, rows, **changes) -> StartEvaluation:
    fields = {
        "cycle_id": "cyc_1",
        "workload_id": "wl_one",
        "model": TUNED,
        "baseline": BASE,
        "digest": room.digest(rows),
    }
    return StartEvaluation(**(fields | changes))


def test_a_cycle_hears_the_verdict(room, models, rows):
    room.create_workload("one", {})
    room.emit(_command(room, rows[:3]))
    room.run()
    (fact,) = room.completed()
    assert (fact["cycle_id"], fact["workload_id"], fact["verdict"]) == ("cyc_1", "wl_one", "pass")
    ((digest, file_id),) = room.rows("SELECT digest, file_id FROM evaluation.evaluations")
    assert (digest, file_id) == (room.digest(rows[:3]), None)


def test_a_model_that_is_registered_a_moment_later_is_waited_for(room, stand_in, rows):
    room.create_workload("one", {})
    room.emit(_command(room, rows[:1]))
    room.ring()
    assert room.rows("SELECT 1 FROM evaluation.evaluations") == []
    room.register()
    stand_in.answers = {TUNED: _right, BASE: _half_right}
    room.run()
    assert room.completed()[0]["verdict"] == "pass"


@pytest.mark.parametrize(
    ("changes", "attempts", "code"),
    [
        ({"model": "ft:none"}, 3, "model_not_found"),
        ({"baseline": TUNED}, 1, "same_model"),
        ({"digest": "0" * 64}, 3, "blob_missing"),
        ({"workload_id": "wl_none"}, 3, "workload_not_found"),
    ],
)
def test_a_cycle_hears_why_nothing_could_be_evaluated(room, models, rows, changes, attempts, code):
    room.create_workload("one", {})
    room.emit(_command(room, rows[:1], **changes))
    for _ in range(attempts):
        assert room.completed() == []
        room.ring()
    (fact,) = room.completed()
    assert (fact["cycle_id"], fact["verdict"]) == ("cyc_1", "fail")
    assert room.due() == []
    found = room.client.get(f"{ROUTE}/{fact['evaluation_id']}").json()
    assert (found["state"], found["error_code"], found["reason"]) == (
        "failed",
        code,
        fact["reason"],
    )


def test_broken_held_out_rows_fail_the_cycle_with_their_line(room, models, rows):
    room.create_workload("one", {})
    room.emit(_command(room, [rows[0], {"messages": []}]))
    room.ring()
    (fact,) = room.completed()
    assert fact["reason"].startswith("Line 2: ")
