from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import Invalid
from shared.statistics.edetector import RATIOS, EDetector, Run, bets


def _fold(ceiling, values):
    detector = EDetector(ceiling)
    for value in values:
        detector = detector.advance(value)
    return detector


@pytest.mark.parametrize("value", [0, 1])
def test_factor_of_a_bad_event_is_the_likelihood_ratio(value):
    p = 0.1
    for ratio, total in zip(RATIOS, _fold(p, [value]).sums, strict=True):
        q = ratio * p / (1 - p + ratio * p)
        assert total == pytest.approx(q / p if value else (1 - q) / (1 - p))


def test_value_at_the_ceiling_adds_one_and_is_no_evidence():
    assert _fold(0.3, [0.3] * 10).statistic == 10


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_state_settles_at_finite_numbers_and_so_stays_finite_for_ever(value):
    detector = _fold(0.1, [value] * 20_000)
    assert detector.advance(value).sums == detector.sums
    assert all(math.isfinite(run.product) for run in detector.runs)
    assert math.isfinite(detector.statistic)


def test_restart_forgets_the_evidence_and_keeps_the_ceiling():
    assert _fold(0.1, [1.0] * 5).restart() == EDetector(0.1)


def test_onset_is_where_the_failures_began():
    change = _fold(0.1, [0.0] * 50 + [1.0] * 8).change
    assert (change.count, change.total) == (8, 8)


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=1, max_size=60))
def test_onset_maximises_the_product_over_all_starts(values):
    detector = _fold(0.2, values)
    products = [
        math.prod(1 + bet * (value - 0.2) for value in values[start:])
        for bet in bets(0.2)
        for start in range(len(values))
    ]
    assert detector.change.product == pytest.approx(max(products))


def test_nothing_has_changed_before_the_first_value():
    assert EDetector(0.1).change == Run()


@pytest.mark.parametrize("ceiling", [0, 1, -0.5])
def test_ceiling_that_cannot_be_exceeded_is_refused(ceiling):
    with pytest.raises(Invalid, match="ceiling"):
        EDetector(ceiling)


@pytest.mark.parametrize("value", [-0.1, 1.5, math.nan])
def test_value_outside_the_unit_interval_is_refused(value):
    with pytest.raises(Invalid, match=r"\[0, 1\]"):
        EDetector(0.1).advance(value)
