"""What labels say and what corrections teach."""

from __future__ import annotations

import json

import pytest

from services.feedback.domain import Label, Outcome, is_same_answer, outcome_of, training_row
from shared.errors import Invalid


@pytest.mark.parametrize(
    ("label", "answer", "outcome"),
    [
        (Label(success=False, correction="x", thumb="up", rating=5), "x", (False, "success")),
        (Label(correction="x", thumb="down", rating=1), "x", (True, "correction")),
        (Label(correction="y", thumb="up"), "x", (False, "correction")),
        (Label(thumb="up", rating=1), None, (True, "thumb")),
        (Label(rating=4), None, (True, "rating")),
        (Label(rating=3), None, (False, "rating")),
    ],
)
def test_the_outcome_comes_from_the_first_part_that_says_one(label, answer, outcome):
    assert outcome_of(label, answer) == Outcome(*outcome)


@pytest.mark.parametrize("label", [Label(comment="slow"), Label(correction="x", thumb="up")])
def test_no_outcome_without_one_said_or_without_the_answer_to_compare(label):
    assert outcome_of(label, None) is None


def test_saying_nothing_is_refused():
    with pytest.raises(Invalid, match="says nothing"):
        Label()


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ('{"a": 1, "b": 2}', '{"b":2,"a":1}', True),
        ('{"a": 1}', '{"a": "1"}', False),
        ("two  words\n", "two words", True),
        ("Two words", "two words", False),
    ],
)
def test_answers_are_compared_as_json_or_but_for_white_space(left, right, same):
    assert is_same_answer(left, right) is same


def test_a_correction_becomes_a_row_that_ends_in_it():
    row = json.loads(training_row([{"role": "user", "content": "q"}], "right"))
    assert row["messages"][-1] == {"role": "assistant", "content": "right"}
    assert len(row["messages"]) == 2
