from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.releases.domain import (
    AnsweredRequest,
    Ramp,
    judge_label,
    judge_record,
    mark_first,
    planned_share,
)
from shared.assignment import Arm

START = datetime(2026, 1, 1, tzinfo=UTC)
RAMPS = [Ramp(START, 0.05), Ramp(START + timedelta(seconds=100), 0.25)]


def _request(**changes) -> AnsweredRequest:
    facts = {
        "release": "rel_new",
        "is_error": False,
        "is_fallback": False,
        "is_cached": False,
        "is_batch": False,
        "latency_ms": 120.0,
        "output_tokens": 40,
        "unit": "u1",
        "at": START + timedelta(seconds=10),
    }
    return AnsweredRequest(**{**facts, **changes})


def _judge(**changes):
    return judge_record(_request(**changes), "rel_new", RAMPS, is_first_of_unit=True)


def test_label_is_evidence_on_success_alone():
    seen = judge_label("rel_old", "rel_new", 1)
    assert (seen.arm, seen.success) == (Arm.CONTROL, 1.0)
    assert (seen.is_error, seen.latency_ms, seen.tokens, seen.planned_share) == (None,) * 4


def test_own_answer_counts_for_every_guardrail():
    seen = _judge()
    assert seen.arm is Arm.CANARY
    assert (seen.is_error, seen.latency_ms, seen.tokens) == (False, 120.0, 40)
    assert seen.planned_share == 0.05


@pytest.mark.parametrize(
    ("flag", "is_error"), [("is_error", True), ("is_fallback", True), ("is_cached", None)]
)
def test_foreign_answer_says_nothing_on_speed_and_length(flag, is_error):
    seen = _judge(**{flag: True})
    assert (seen.is_error, seen.latency_ms, seen.tokens) == (is_error, None, None)


@pytest.mark.parametrize("is_error", [False, True])
def test_a_line_of_a_batch_says_nothing_on_speed_and_failures(is_error):
    seen = _judge(is_batch=True, is_error=is_error)
    assert (seen.is_error, seen.latency_ms) == (None, None)
    assert seen.tokens == (None if is_error else 40)


@pytest.mark.parametrize(
    ("seconds", "share"),
    [(-1, None), (0, None), (1.9, None), (2, 0.05), (99, 0.05), (100, None), (102, 0.25)],
)
def test_planned_share_is_unknown_while_a_change_spreads(seconds, share):
    assert planned_share(RAMPS, START + timedelta(seconds=seconds)) == share


def test_a_share_of_all_units_is_no_experiment():
    assert planned_share([Ramp(START, 1.0)], START + timedelta(seconds=9)) is None


def test_only_the_first_request_of_a_new_unit_is_marked():
    requests = [_request(unit=unit) for unit in ("a", "b", "a", "c")]
    assert mark_first(requests, {"a", "c"}) == [True, False, False, True]
