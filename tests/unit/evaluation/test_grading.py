"""An answer against the expected one."""

from __future__ import annotations

import pytest

from services.evaluation.domain.grading import Grade, grade


@pytest.mark.parametrize(
    ("expected", "answer", "exact"),
    [
        ("Paris", "Paris", True),
        ("two  words", " two\nwords ", True),
        ("Paris", "paris", False),
        ("Paris", "", False),
        ("42", "42.0", False),  # a bare number is text
        ("[1, 2]", "[1,2.0]", True),
        ("[1, 2]", "[2, 1]", False),
        ("[1, 2]", "[1]", False),
        ("[true]", "[1]", False),
        ("[1]", "one", False),
    ],
)
def test_text_and_lists_have_no_fields(expected, answer, exact):
    assert grade(expected, answer) == Grade(exact=exact, fields=None)


@pytest.mark.parametrize(
    ("answer", "exact", "right"),
    [
        ('{"b": {"c": [1, null]}, "a": "x"}', True, {"a", "b"}),
        ('{"a":"x","b":{"c":[1.0,null]}}', True, {"a", "b"}),
        ('{"a": "x", "b": {"c": [1, null]}, "more": 0}', False, {"a", "b"}),
        ('{"a": "x", "b": {"c": [1]}}', False, {"a"}),
        ('{"a": "x"}', False, {"a"}),
        ('{"a": "x", "b": ', False, set()),
        ('["a", "b"]', False, set()),
        ('Sure! {"a": "x", "b": {"c": [1, null]}}', False, set()),
        ('{"a": NaN, "b": true}', False, set()),
        ("[" * 100_000, False, set()),
        ("", False, set()),
    ],
)
def test_objects_are_compared_by_value_field_by_field(answer, exact, right):
    graded = grade('{"a": "x", "b": {"c": [1, null]}}', answer)
    assert graded.exact is exact
    assert graded.fields == {"a": "a" in right, "b": "b" in right}


def test_true_is_not_one_and_a_null_field_must_be_there():
    assert grade('{"a": 1}', '{"a": true}').fields == {"a": False}
    assert grade('{"a": null}', "{}").fields == {"a": False}
