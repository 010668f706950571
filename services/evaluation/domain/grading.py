"""Grading one answer against the expected one."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Grade:
    """
    Attributes:
        exact: The answer is the expected one.
        fields: Whether each top-level key of the expected JSON object has its value; None where no
            JSON object is expected.
    """

    exact: bool
    fields: dict[str, bool] | None


def grade(expected: str, answer: str) -> Grade:
    """
    Compare an answer: JSON by value, any other text with white space normalised.

    JSON is compared as JSON where *expected* is an object or a list. Key order and spacing do not
    matter; an extra key does. A bare number or word is text.
    """
    wanted = _parse(expected)
    if not isinstance(wanted, dict | list):
        return Grade(exact=expected.split() == answer.split(), fields=None)
    given = _parse(answer)
    exact = is_same(wanted, given)
    if not isinstance(wanted, dict):
        return Grade(exact=exact, fields=None)
    found = given if isinstance(given, dict) else {}
    return Grade(
        exact=exact,
        fields={
            _writable(key): key in found and is_same(value, found[key])
            for key, value in wanted.items()
        },
    )


def is_same(left: object, right: object) -> bool:
    """Equality of JSON values: 1 is 1.0, but true is not 1."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(is_same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(is_same, left, right))
    return isinstance(left, bool) == isinstance(right, bool) and left == right


def _writable(key: str) -> str:
    """A key as UTF-8 can hold it: an escape inside an answer may spell half a surrogate pair."""
    return key.encode("utf-8", errors="replace").decode()


def _parse(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        # A model may write anything, ten thousand brackets included.
        return None
