"""A model beside the recorded answers of one that is not here."""

from __future__ import annotations

import json
import re

import pytest
from model_stand_in import BASE, TUNED

ROUTE = "/api/v1/evaluations"
OLD = "ft:gpt-4o-mini:acme::abc"


def _answer(number: int) -> str:
    return json.dumps({"city": f"City {number}", "price": number})


def _row(number: int, **recorded: object) -> dict:
    said = {"model": OLD, "answer": _answer(number), "latency_ms": 800.0 + number}
    return {
        "messages": [
            {"role": "user", "content": f"Listing {number}."},
            {"role": "assistant", "content": _answer(number)},
        ],
        "recorded": {**said, "input_tokens": 120, "output_tokens": 30, **recorded},
    }


def _right(prompt: str) -> str:
    return _answer(int(re.search(r"Listing (\d+)", prompt)[1]))


@pytest.fixture
def rows():
    return [_row(number) for number in range(5)]


@pytest.fixture
def models(room, stand_in):
    """A tuned model that knows the answers."""
    room.register()
    stand_in.answers = {TUNED: _right}


def _create(room, rows, **body):
    body = {"model": TUNED, "file_id": room.upload(rows), "recorded": True} | body
    return room.client.post(ROUTE, json=body)


def _evaluated(room, rows, **body):
    created = _create(room, rows, **body)
    assert created.status_code == 200, created.text
    room.run()
    return room.client.get(f"{ROUTE}/{created.json()['id']}").json()


def _cases(room, evaluation):
    return room.client.get(f"{ROUTE}/{evaluation['id']}/cases").json()["data"]


def test_the_recorded_answers_are_the_baseline_and_their_model_is_never_asked(
    room, models, stand_in, rows
):
    rows[3]["recorded"]["answer"] = _answer(7)
    found = _evaluated(room, rows)
    assert (found["state"], found["verdict"]) == ("completed", "pass")
    assert (found["baseline"], found["recorded"], found["cases"]) == (OLD, True, 5)
    candidate, baseline = found["metrics"]["candidate"], found["metrics"]["baseline"]
    assert (candidate["exact_match"]["estimate"], baseline["exact_match"]["estimate"]) == (1.0, 0.8)
    assert found["metrics"]["exact_difference"]["estimate"] == pytest.approx(0.2)
    assert baseline["fields"]["price"]["estimate"] == 0.8
    assert (baseline["target_perplexity"], baseline["general_perplexity"]) == (None, None)
    assert candidate["target_perplexity"]["estimate"] > 1 < candidate["general_perplexity"]["low"]
    assert baseline["latency"]["p50_ms"] == 802.0
    assert (baseline["input_tokens"], baseline["output_tokens"]) == (600, 150)
    assert {body["model"] for path, body in stand_in.requests if path == "/v1/load"} == {TUNED}
    started, completed = room.audited()
    assert (started.facts["recorded"], completed.facts["recorded"]) == (True, True)
    assert completed.facts["baseline"] == OLD


def test_numbers_that_were_not_recorded_are_null(room, models, rows):
    for row in rows:
        row["recorded"] = {"model": OLD, "answer": row["recorded"]["answer"]}
    baseline = _evaluated(room, rows)["metrics"]["baseline"]
    assert (baseline["latency"], baseline["input_tokens"], baseline["output_tokens"]) == (
        None,
        None,
        None,
    )


def test_what_the_old_model_failed_at_is_shown_and_counts_as_wrong(room, models, rows):
    rows[1]["recorded"] = {"model": OLD, "answer": None, "error": "content_filter"}
    found = _evaluated(room, rows)
    assert found["metrics"]["baseline"]["failed_answers"] == 1
    assert found["metrics"]["baseline"]["exact_match"]["estimate"] == 0.8
    side = _cases(room, found)[1]["baseline"]
    assert (side["answer"], side["exact"], side["error"]) == (None, False, "content_filter")


def test_an_answer_may_become_as_long_as_the_recorded_one(room, models, stand_in, rows):
    rows[0]["recorded"]["answer"] = "Bonn " * 100
    _evaluated(room, rows)
    limits = sorted(
        body["n_predict"] for path, body in stand_in.requests if path.endswith("/completion")
    )
    assert limits[-1] >= 150 > limits[-2]


def test_a_worse_model_regresses_from_what_was_recorded(room, models, stand_in, rows):
    stand_in.answers[TUNED] = lambda _prompt: "no idea"
    found = _evaluated(room, rows)
    assert [rule["rule"] for rule in found["rules"] if not rule["passed"]] == ["max_regression"]


def test_a_base_is_compared_with_recorded_answers_of_its_own_name(room, stand_in, rows):
    stand_in.answers = {BASE: _right}
    for row in rows:
        row["recorded"]["model"] = BASE
    found = _evaluated(room, rows, model=BASE)
    assert (found["model"], found["baseline"]) == (BASE, BASE)
    assert found["metrics"]["baseline"]["general_perplexity"] is None


def test_recorded_answers_leave_no_room_for_another_baseline(room, models, rows):
    refused = _create(room, rows, baseline=BASE)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (400, "invalid_body")
    assert "leave out 'baseline'" in error["message"]
    assert room.rows("SELECT 1 FROM evaluation.evaluations") == []


def test_rows_without_a_recorded_answer_are_refused_by_line_unless_nobody_asks_for_one(
    room, models, stand_in, rows
):
    del rows[2]["recorded"]
    refused = _create(room, rows)
    assert (refused.status_code, refused.json()["error"]["code"]) == (
        400,
        "invalid_evaluation_file",
    )
    assert refused.json()["error"]["message"].startswith("Line 3: ")
    assert room.due() == []
    stand_in.answers[BASE] = _right
    found = _evaluated(room, rows, recorded=False)
    assert (found["recorded"], found["baseline"]) == (False, BASE)


def test_half_a_surrogate_pair_in_a_key_can_be_written_down(room, models, rows):
    half = '{"\\ud83d": 1}'
    rows[0]["recorded"]["answer"] = half
    rows[1]["messages"][1]["content"] = half
    found = _evaluated(room, rows)
    assert found["state"] == "completed", found["reason"]
    assert _cases(room, found)[1]["candidate"]["fields"] == {"?": False}
    assert _cases(room, found)[0]["agreement"]["fields"] == {"?": False}
