"""The rules of the gate, each at its bound."""

from __future__ import annotations

import pytest

from services.evaluation.domain.estimates import Estimate
from services.evaluation.domain.gate import Bounds, judge
from shared.policy import GateRules

BOUNDS = Bounds(max_regression=0.05, min_exact_match=0.8, max_general_perplexity_ratio=1.5)
EXACT = Estimate(0.9, 0.75, 0.97)
SAME = Estimate(0.0, -0.02, 0.02)
KEPT = Estimate(1.1, 1.05, 1.2)


def test_the_policy_has_these_rules():
    assert Bounds(**GateRules().model_dump()) == Bounds(0.05, 0.0, 1.5)


def test_all_rules_hold():
    verdict = judge(EXACT, SAME, KEPT, BOUNDS)
    assert verdict.passed
    assert [rule.rule for rule in verdict.rules] == [
        "max_regression",
        "min_exact_match",
        "max_general_perplexity_ratio",
    ]
    assert "90.0%" in verdict.reason
    assert "1.100 times" in verdict.reason


@pytest.mark.parametrize(
    ("exact", "difference", "ratio", "failing"),
    [
        (EXACT, Estimate(0.02, -0.06, 0.1), KEPT, "max_regression"),
        (Estimate(0.79, 0.7, 0.9), SAME, KEPT, "min_exact_match"),
        (EXACT, SAME, Estimate(1.51, 1.2, 2.0), "max_general_perplexity_ratio"),
    ],
)
def test_one_broken_rule_fails_and_is_the_reason(exact, difference, ratio, failing):
    verdict = judge(exact, difference, ratio, BOUNDS)
    assert not verdict.passed
    (broken,) = (rule for rule in verdict.rules if not rule.passed)
    assert broken.rule == failing
    assert verdict.reason == broken.sentence


def test_the_bounds_themselves_are_allowed():
    at_bounds = judge(
        Estimate(0.8, 0.5, 0.9), Estimate(0.0, -0.05, 0.1), Estimate(1.5, 1.4, 1.6), BOUNDS
    )
    assert at_bounds.passed
    assert [(rule.measured, rule.bound) for rule in at_bounds.rules] == [
        (-0.05, -0.05),
        (0.8, 0.8),
        (1.5, 1.5),
    ]


def test_without_a_baseline_there_is_no_regression_to_judge():
    verdict = judge(EXACT, None, KEPT, BOUNDS)
    assert [rule.rule for rule in verdict.rules] == [
        "min_exact_match",
        "max_general_perplexity_ratio",
    ]
