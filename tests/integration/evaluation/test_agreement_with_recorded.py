"""How far a model says what another one was recorded to say."""

from __future__ import annotations

import json
import re

import pytest
from model_stand_in import BASE, TUNED

ROUTE = "/api/v1/evaluations"
# What was recorded for each row, and what the model here says.
RECORDED = ["Yes.", "No.", "Perhaps.", "Never.", "Always."]
SAID = ["Yes.", "Nope.", "Tomorrow.", "", "Always."]
# Each recorded answer is at 0.6 of the next, and the last at 1 of the first, which comes after it.
# "Nope." is near to "No.", "Tomorrow." to none.
VECTORS = {
    "Yes.": [1.0, 0.0, 0.0],
    "No.": [0.6, 0.8, 0.0],
    "Perhaps.": [1.0, 0.0, 0.0],
    "Never.": [0.6, 0.8, 0.0],
    "Always.": [1.0, 0.0, 0.0],
    "Nope.": [0.75, 0.6614378, 0.0],
    "Tomorrow.": [0.0, 0.0, 1.0],
}


def _row(number: int, **recorded: object) -> dict:
    said = {"model": "ft:old", "answer": RECORDED[number]} | recorded
    return {
        "messages": [
            {"role": "user", "content": f"Question {number}?"},
            {"role": "assistant", "content": "Who knows."},
        ],
        "recorded": said,
    }


def _say(prompt: str) -> str:
    return SAID[int(re.search(r"Question (\d+)", prompt)[1])]


@pytest.fixture
def rows():
    return [_row(number) for number in range(5)]


@pytest.fixture
def models(room, stand_in):
    room.register()
    stand_in.answers = {TUNED: _say}
    stand_in.vectors = VECTORS.__getitem__


def _create(room, rows, **body):
    body = {"model": TUNED, "file_id": room.upload(rows), "recorded": True} | body
    created = room.client.post(ROUTE, json=body)
    assert created.status_code == 200, created.text
    return created.json()


def _get(room, evaluation):
    return room.client.get(f"{ROUTE}/{evaluation['id']}").json()


def _evaluated(room, rows, **body):
    created = _create(room, rows, **body)
    room.run()
    return _get(room, created)


def _shown(room, evaluation):
    page = room.client.get(f"{ROUTE}/{evaluation['id']}/cases").json()["data"]
    return [case["agreement"] for case in page]


def _embeddings(stand_in):
    return [body for path, body in stand_in.requests if path == "/v1/embed"]


def test_answers_agree_exactly_or_in_other_words_or_not(room, models, rows):
    found = _evaluated(room, rows)
    assert found["state"] == "completed", found["reason"]
    agreement = found["metrics"]["agreement"]
    assert (agreement["cases"], agreement["fields"]) == (5, None)
    assert agreement["background"] == pytest.approx(0.68)
    assert agreement["exact"]["estimate"] == 0.4
    assert agreement["exact"]["low"] == pytest.approx(0.118, abs=1e-3)  # Wilson, 2 of 5
    near = (0.6 * 0.75 + 0.8 * 0.6614378 - 0.68) / 0.32
    assert agreement["similarity"]["estimate"] == pytest.approx((2 + near) / 5, abs=1e-6)
    assert agreement["semantic"]["estimate"] == 0.6
    assert [case["exact"] for case in _shown(room, found)] == [True, False, False, False, True]
    assert [case["similarity"] for case in _shown(room, found)] == pytest.approx([1, near, 0, 0, 1])
    (completed,) = [entry for entry in room.audited() if entry.action == "evaluation.completed"]
    assert completed.facts["agreement"] == agreement


def test_json_answers_agree_field_by_field(room, models, stand_in, rows):
    for number, row in enumerate(rows):
        row["recorded"]["answer"] = json.dumps({"city": "Bonn", "price": number})
    stand_in.answers[TUNED] = lambda _prompt: '{"price": 0, "city": "Bonn"}'
    stand_in.vectors = lambda text: [1.0, 0.0] if '"price": 0' in text else [0.6, 0.8]
    found = _evaluated(room, rows)
    agreement = found["metrics"]["agreement"]
    assert (agreement["exact"]["estimate"], agreement["fields"]["estimate"]) == (0.2, 0.6)
    assert _shown(room, found)[1] == {
        "exact": False,
        "fields": {"city": True, "price": False},
        "similarity": 0.0,
    }


def test_where_the_old_model_failed_there_is_nothing_to_agree_with(room, models, rows):
    rows[4]["recorded"] |= {"answer": None, "error": "timeout"}
    found = _evaluated(room, rows)
    assert found["metrics"]["agreement"]["cases"] == 4
    assert [case is None for case in _shown(room, found)] == [False] * 4 + [True]
    for row in rows:
        row["recorded"] |= {"answer": None, "error": "timeout"}
    found = _evaluated(room, rows)
    assert (found["state"], found["metrics"]["agreement"]) == ("completed", None)


def test_a_refused_prompt_agrees_with_nothing(room, models, stand_in, rows):
    stand_in.answers[TUNED] = lambda prompt: None if "Question 0" in prompt else _say(prompt)
    found = _evaluated(room, rows)
    assert found["metrics"]["agreement"]["cases"] == 5
    assert _shown(room, found)[0] == {"exact": False, "fields": None, "similarity": 0.0}


def test_when_all_say_the_same_nothing_is_embedded(room, models, stand_in, rows):
    for row in rows:
        row["recorded"]["answer"] = "Yes."
    stand_in.answers[TUNED] = lambda _prompt: "Yes."
    agreement = _evaluated(room, rows)["metrics"]["agreement"]
    assert (agreement["exact"]["estimate"], agreement["similarity"]["estimate"]) == (1.0, 1.0)
    assert agreement["background"] is None
    assert _embeddings(stand_in) == []


def test_one_case_has_no_scale(room, models, stand_in, rows):
    agreement = _evaluated(room, rows[1:2])["metrics"]["agreement"]
    assert (agreement["cases"], agreement["background"]) == (1, None)
    assert (agreement["similarity"]["estimate"], agreement["semantic"]["estimate"]) == (0.0, 0.0)


def test_without_recorded_answers_there_is_no_agreement(room, models, stand_in, rows):
    stand_in.answers[BASE] = _say
    found = _evaluated(room, rows, recorded=False)
    assert (found["state"], found["metrics"]["agreement"]) == ("completed", None)
    assert _shown(room, found) == [None] * 5
    assert _embeddings(stand_in) == []


def test_answers_are_compared_in_parts_and_each_text_of_a_part_once(make_room, stand_in):
    room = make_room(stand_in.url, score_tokens_per_step=64)
    room.register()
    stand_in.answers = {TUNED: _say}
    rows = [_row(n % 5, answer=f"It is {n}.") for n in range(25)]
    found = _evaluated(room, rows)
    assert found["metrics"]["agreement"]["cases"] == 25
    parts = _embeddings(stand_in)
    assert len(parts) > 5
    assert all(sum(map(len, part["input"])) <= 64 for part in parts)
    for part in parts:
        texts = list(map(tuple, part["input"]))
        assert len(set(texts)) == len(texts)


def test_a_model_server_that_is_away_is_waited_for_and_nothing_is_asked_twice(
    room, models, stand_in, rows
):
    created = _create(room, rows)
    while not _embeddings(stand_in):
        stand_in.is_away = _has_read_the_general_text(room, created)
        room.ring()
    assert _shown(room, created) == [None] * 5
    (due,) = room.due()
    assert "server_closing" in due.last_error
    stand_in.is_away = False
    room.run()
    assert _get(room, created)["state"] == "completed"
    assert len(_embeddings(stand_in)) == 2


def _has_read_the_general_text(room, evaluation) -> bool:
    ((general,),) = room.rows(
        "SELECT general FROM evaluation.evaluations WHERE id = :id", id=evaluation["id"]
    )
    read = [len(found["nll"]) for found in general.values()]
    return len(read) == 2 and min(read) == 11


def test_similarities_are_shown_when_the_scale_is_known(room, models, stand_in, rows):
    created = _create(room, rows)
    while not _embeddings(stand_in):
        room.ring()
    assert [case["similarity"] for case in _shown(room, created)] == [None] * 5
    assert [case["exact"] for case in _shown(room, created)] == [True, False, False, False, True]


def test_an_evaluation_of_an_older_release_is_still_shown(room, models, stand_in, rows):
    stand_in.answers[BASE] = _say
    found = _evaluated(room, rows, recorded=False)
    room.rows("UPDATE evaluation.evaluations SET metrics = metrics - 'agreement'")
    assert _get(room, found) == found
