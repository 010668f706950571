"""What the cases of a side add up to."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from services.evaluation.domain.metrics import (
    CaseResult,
    TextScore,
    exact_difference,
    measure,
    perplexity_ratio,
)
from shared.errors import Invalid

RIGHT = CaseResult(
    exact=True,
    fields={"city": True, "price": True},
    nll=math.log(2) * 10,
    target_tokens=10,
    latency_ms=100.0,
    input_tokens=30,
    output_tokens=9,
)
HALF = replace(RIGHT, exact=False, fields={"city": True, "price": False}, latency_ms=300.0)
GENERAL = TextScore(nll=(math.log(8) * 50, math.log(8) * 70), tokens=(50, 70))


def test_shares_perplexities_latency_and_tokens():
    found = measure([RIGHT, RIGHT, HALF, replace(HALF, is_cut=True)], GENERAL)
    assert (found.cases, found.json_cases, found.cut_answers, found.failed_answers) == (4, 4, 1, 0)
    assert found.exact_match.estimate == 0.5
    assert found.exact_match.low == pytest.approx(0.150, abs=5e-4)  # Wilson, 2 of 4
    assert found.exact_match.high == pytest.approx(0.850, abs=5e-4)
    assert found.fields["city"].estimate == 1.0
    assert found.fields["price"].estimate == 0.5
    assert found.field_accuracy.estimate == 0.75
    assert found.field_accuracy.low < 0.75 < found.field_accuracy.high
    assert found.target_perplexity.estimate == pytest.approx(2)
    assert found.general_perplexity.estimate == pytest.approx(8)
    assert (found.latency.mean_ms, found.latency.p50_ms) == (200, 200)
    assert found.latency.p95_ms == 300
    assert (found.input_tokens, found.output_tokens) == (120, 36)


def test_a_long_target_weighs_by_its_tokens():
    long = replace(RIGHT, nll=math.log(4) * 30, target_tokens=30)
    found = measure([RIGHT, long], GENERAL).target_perplexity
    assert found.estimate == pytest.approx(math.exp((10 * math.log(2) + 30 * math.log(4)) / 40))


def test_text_cases_have_no_field_accuracy_and_refused_ones_are_counted():
    found = measure([replace(RIGHT, exact=False, fields=None, error="prompt_refused")], GENERAL)
    assert (found.json_cases, found.field_accuracy, found.fields) == (0, None, {})
    assert (found.failed_answers, found.latency.p95_ms) == (1, 100.0)


def test_of_recorded_answers_there_is_no_more_than_was_recorded():
    bare = replace(RIGHT, nll=None, latency_ms=None, input_tokens=None, output_tokens=None)
    found = measure([bare, bare], None)
    assert found.exact_match.estimate == 1.0
    assert (found.target_perplexity, found.general_perplexity, found.latency) == (None, None, None)
    assert (found.input_tokens, found.output_tokens) == (None, None)


def test_latency_is_of_those_it_is_known_of_and_sums_are_whole_or_not_at_all():
    bare = replace(RIGHT, latency_ms=None, output_tokens=None)
    failed = replace(bare, exact=False, input_tokens=None, error="timeout")
    found = measure([RIGHT, bare, failed], GENERAL)
    assert found.latency.mean_ms == 100.0
    assert (found.input_tokens, found.output_tokens) == (60, None)


def test_the_same_cases_give_the_same_numbers():
    assert measure([RIGHT, HALF, RIGHT], GENERAL) == measure([RIGHT, HALF, RIGHT], GENERAL)


def test_no_case_is_refused():
    with pytest.raises(Invalid):
        measure([], GENERAL)


def test_difference_is_taken_case_by_case():
    mixed = [RIGHT, HALF] * 20
    assert exact_difference(mixed, mixed).low == 0.0
    better = exact_difference([RIGHT] * 40, mixed)
    assert better.estimate == 0.5
    assert 0.3 < better.low < 0.5 < better.high < 0.7
    with pytest.raises(ValueError, match="shorter"):
        exact_difference([RIGHT], [])


def test_ratio_is_paired_by_paragraph():
    by_half = math.log(1.5)
    worse = replace(GENERAL, nll=(GENERAL.nll[0] + by_half * 50, GENERAL.nll[1] + by_half * 70))
    found = perplexity_ratio(worse, GENERAL)
    # Every paragraph is worse by the same factor, so there is nothing uncertain about it.
    assert (found.low, found.estimate, found.high) == pytest.approx((1.5, 1.5, 1.5))
    assert perplexity_ratio(GENERAL, GENERAL).estimate == 1.0
