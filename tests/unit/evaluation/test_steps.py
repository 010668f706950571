"""How much goes into a step."""

from __future__ import annotations

import pytest

from services.evaluation.service.steps import answer_limit, fit_into


@pytest.mark.parametrize(
    ("lengths", "fit"),
    [([50, 50, 1], 2), ([101, 1], 1), ([0, 0, 100, 1], 3), ([100], 1), ([30, 30, 30], 3)],
)
def test_as_many_as_fit_and_at_least_one(lengths, fit):
    assert fit_into(100, lengths) == fit


@pytest.mark.parametrize(("expected", "limit"), [(1, 17), (40, 76), (1000, 512)])
def test_an_answer_may_be_half_as_long_again_as_expected_up_to_the_most(expected, limit):
    assert answer_limit(expected, 512) == limit
