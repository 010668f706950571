"""How far a model says what another one said."""

from __future__ import annotations

import pytest

from services.evaluation.domain.agreement import (
    SEMANTIC_SIMILARITY,
    Comparison,
    agree,
    similarity,
)

SAME = Comparison(exact=True, fields=None, cosine=None, mismatched=0.6)
NEAR = Comparison(exact=False, fields=None, cosine=0.92, mismatched=0.4)
FAR = Comparison(exact=False, fields=None, cosine=0.5, mismatched=0.5)
EMPTY = Comparison(exact=False, fields=None, cosine=None, mismatched=0.5)


def test_nothing_to_compare_is_no_agreement():
    assert agree([]) is None


def test_shares_and_mean_on_the_scale_between_mismatched_and_same():
    found = agree([SAME, NEAR, FAR, EMPTY])
    assert found.background == pytest.approx(0.5)
    assert (found.cases, found.exact.estimate, found.semantic.estimate) == (4, 0.25, 0.5)
    assert found.similarity.estimate == pytest.approx((1 + 0.84 + 0 + 0) / 4)
    assert found.exact.low == pytest.approx(0.0456, abs=1e-4)  # Wilson, 1 of 4
    assert found.similarity.low < found.similarity.estimate < found.similarity.high
    assert found.fields is None


@pytest.mark.parametrize(("cosine", "near"), [(1.0, 1.0), (0.85, 0.7), (0.5, 0.0), (-1.0, 0.0)])
def test_the_background_is_zero_and_what_lies_below_is_no_nearer(cosine, near):
    found = Comparison(exact=False, fields=None, cosine=cosine, mismatched=None)
    assert similarity(found, 0.5) == pytest.approx(near)


def test_the_threshold_itself_is_near_enough():
    at_it = Comparison(exact=False, fields=None, cosine=SEMANTIC_SIMILARITY, mismatched=0.0)
    assert agree([at_it]).semantic.estimate == 1.0


@pytest.mark.parametrize("mismatched", [None, 1.0, 0.9999])
def test_without_different_answers_there_is_no_scale_and_only_the_same_are_near(mismatched):
    same = Comparison(exact=True, fields=None, cosine=None, mismatched=mismatched)
    other = Comparison(exact=False, fields=None, cosine=0.99999, mismatched=mismatched)
    found = agree([same, other])
    assert found.background is None
    assert (found.similarity.estimate, found.semantic.estimate) == (0.5, 0.5)


def test_one_case_is_enough():
    found = agree([NEAR])
    assert (found.cases, found.exact.estimate, found.semantic.estimate) == (1, 0.0, 1.0)
    assert found.similarity.low == found.similarity.high


def test_fields_are_counted_over_all_answers_that_have_some():
    right = Comparison(exact=True, fields={"a": True, "b": True}, cosine=None, mismatched=0.5)
    half = Comparison(exact=False, fields={"a": True, "b": False}, cosine=0.6, mismatched=0.5)
    assert agree([right, half, FAR]).fields.estimate == 0.75


def test_the_same_answers_give_the_same_numbers():
    assert agree([SAME, NEAR, FAR]) == agree([SAME, NEAR, FAR])
