"""How much goes into a step."""

from __future__ import annotations

import pytest

from services.evaluation.service.steps import fit_into


@pytest.mark.parametrize(
    ("lengths", "fit"),
    [([50, 50, 1], 2), ([101, 1], 1), ([0, 0, 100, 1], 3), ([100], 1), ([30, 30, 30], 3)],
)
def test_as_many_as_fit_and_at_least_one(lengths, fit):
    assert fit_into(100, lengths) == fit
