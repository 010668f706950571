from __future__ import annotations

import math

import pytest

from shared.errors import Invalid
from shared.statistics.eprocess import PROMOTE_BETS, ROLLBACK_BETS, EProcess
from shared.statistics.pairs import Pairs
from shared.statistics.sharetest import ShareTest


def _fold(bets, gains):
    process = EProcess.start(bets)
    for gain in gains:
        process = process.advance(gain)
    return process


def test_value_is_the_mean_of_the_products():
    process = _fold((0.1, 0.5), [1.0, -1.0])
    assert process.value == pytest.approx((1.1 * 0.9 + 1.5 * 0.5) / 2)


@pytest.mark.parametrize("bets", [PROMOTE_BETS, ROLLBACK_BETS])
@pytest.mark.parametrize("gain", [1.0, -1.0])
def test_state_settles_at_finite_numbers_and_so_stays_finite_for_ever(bets, gain):
    process = _fold(bets, [gain] * 20_000)
    assert process.advance(gain) == process
    assert all(math.isfinite(product) and product >= 0 for product in process.products)
    assert math.isfinite(process.value)


def test_gain_that_loses_everything_is_refused():
    with pytest.raises(Invalid, match="wealth"):
        EProcess.start((0.8,)).advance(-2.0)


def test_pair_completes_when_both_arms_have_a_fresh_outcome_and_uses_each_once():
    pairs, differences = Pairs(), []
    for is_canary, value in [(False, 1), (False, 0), (True, 1), (True, 0), (True, 1), (False, 1)]:
        pairs, difference = pairs.add(is_canary=is_canary, value=value)
        differences.append(difference)
    assert differences == [None, None, 0.5, None, None, -0.5]
    assert pairs == Pairs()


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_outcome_outside_the_unit_interval_is_refused(value):
    with pytest.raises(Invalid, match=r"\[0, 1\]"):
        Pairs().add(is_canary=True, value=value)


def test_share_test_finds_a_halved_share_and_counts():
    test = ShareTest()
    for i in range(1000):
        test = test.advance(is_canary=i % 20 == 0, planned_share=0.1)
    assert test.value > 1000
    assert (test.units, test.canary_units) == (1000, 50)
    assert test.expected_canary_units == pytest.approx(100)


def test_share_test_has_no_evidence_when_shares_are_as_planned_through_a_ramp():
    test = ShareTest()
    for i in range(2000):
        planned = 0.1 if i < 1000 else 0.5
        is_canary = i % 10 == 0 if i < 1000 else i % 2 == 0
        test = test.advance(is_canary=is_canary, planned_share=planned)
    assert test.value < 1


@pytest.mark.parametrize("share", [0, 1])
def test_share_without_chance_is_refused(share):
    with pytest.raises(Invalid, match="planned share"):
        ShareTest().advance(is_canary=True, planned_share=share)
