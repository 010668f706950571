from __future__ import annotations

import math

import pytest

from shared.errors import Invalid
from shared.statistics.intervals import (
    bootstrap_interval,
    bootstrap_perplexity,
    bootstrap_ratio,
    wilson_interval,
    wilson_upper,
)


def test_wilson_interval_equals_published_example():
    # Newcombe 1998, table I: 81 of 263, 95 %: 0.2553 to 0.3662.
    estimate, low, high = wilson_interval(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert estimate == 81 / 263


def test_wilson_interval_of_no_success_reaches_zero_exactly_and_has_width():
    # Newcombe 1998, table I: 0 of 20: 0 to 0.1611.
    assert wilson_interval(0, 20).low == 0
    assert round(wilson_interval(0, 20).high, 4) == 0.1611
    assert wilson_interval(20, 20).high == 1


def test_wilson_upper_is_the_upper_end_of_the_wider_two_sided_interval():
    assert wilson_upper(3, 30, confidence=0.95) == wilson_interval(3, 30, confidence=0.9).high


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(successes, n):
    with pytest.raises(Invalid, match="n >= 1"):
        wilson_interval(successes, n)


@pytest.mark.parametrize("confidence", [0, 1, 1.5])
def test_impossible_confidence_is_refused(confidence):
    with pytest.raises(Invalid, match="confidence"):
        wilson_upper(1, 2, confidence=confidence)


def test_bootstrap_interval_is_close_to_the_normal_one_and_repeats():
    values = [float(i % 10) for i in range(400)]
    interval = bootstrap_interval(values, seed=7)
    half = 1.96 * math.sqrt(8.25 / 400)
    assert interval.estimate == 4.5
    assert interval.low == pytest.approx(4.5 - half, abs=0.05)
    assert interval.high == pytest.approx(4.5 + half, abs=0.05)
    assert interval == bootstrap_interval(values, seed=7)
    assert interval != bootstrap_interval(values, seed=8)


def test_bootstrap_of_one_value_has_no_width():
    assert bootstrap_interval([3.0], seed=1) == (3.0, 3.0, 3.0)


def test_bootstrap_ratio_weighs_rows_by_their_denominator():
    assert bootstrap_ratio([1, 9], [1, 3], seed=1).estimate == 10 / 4


def test_perplexity_of_a_uniform_model_is_its_vocabulary():
    interval = bootstrap_perplexity([5 * math.log(7), 9 * math.log(7)], [5, 9], seed=3)
    assert interval == pytest.approx((7, 7, 7))


@pytest.mark.parametrize(("top", "bottom"), [([], []), ([1], [1, 2]), ([1], [0])])
def test_impossible_samples_are_refused(top, bottom):
    with pytest.raises(Invalid, match="bootstrap"):
        bootstrap_ratio(top, bottom, seed=1)
