from __future__ import annotations

import json
import math

import pytest

from services.releases.domain import (
    CanaryOutcome,
    CanaryPolicy,
    CanaryState,
    Guardrail,
    Verdict,
    begin,
    decide,
    fold,
)
from shared.assignment import Arm
from shared.errors import Invalid
from shared.statistics.codec import from_json, to_json

CANARY, CONTROL = Arm.CANARY, Arm.CONTROL


def _run(policy, *rounds, times=1):
    state = begin(policy)
    for _ in range(times):
        for outcome in rounds:
            state = fold(state, outcome)
    return state


def _success(arm, value):
    return CanaryOutcome(arm=arm, success=value)


def test_better_canary_is_promoted_with_its_evidence():
    state = _run(CanaryPolicy(), _success(CONTROL, 0.0), _success(CANARY, 1.0), times=50)
    decision = decide(state)
    assert decision.verdict is Verdict.PROMOTE
    assert decision.share == 1
    assert decision.evidence.e_promote >= decision.evidence.promote_threshold
    assert decision.evidence.canary_outcomes < 12
    assert (decision.evidence.canary_rate, decision.evidence.control_rate) == (1, 0)
    assert "0.05" in decision.guarantee


def test_worse_canary_is_rolled_back():
    state = _run(CanaryPolicy(), _success(CONTROL, 1.0), _success(CANARY, 0.0), times=50)
    assert decide(state).verdict is Verdict.ROLL_BACK
    assert decide(state).share == 0


def test_e_values_follow_the_definition():
    state = _run(CanaryPolicy(), _success(CONTROL, 1.0), _success(CONTROL, 0.0))
    state = fold(state, _success(CANARY, 1.0))
    evidence = decide(state).evidence
    gain = 1.0 - 0.5
    promote = [1 + bet * (gain + 0.05) for bet in (0.1, 0.2, 0.35, 0.5, 0.7, 0.95)]
    rollback = [1 - bet * gain for bet in (0.1, 0.2, 0.35, 0.55, 0.8, 0.95)]
    assert evidence.e_promote == pytest.approx(sum(promote) / 6)
    assert evidence.e_rollback == pytest.approx(sum(rollback) / 6)
    assert evidence.pairs == 1


def test_row_without_outcome_is_no_evidence():
    state = begin(CanaryPolicy())
    assert fold(state, CanaryOutcome(arm=CANARY)) == state


def test_outcomes_after_the_verdict_change_nothing():
    decided = _run(CanaryPolicy(), _success(CONTROL, 0.0), _success(CANARY, 1.0), times=50)
    after = decided
    for _ in range(200):
        after = fold(fold(after, _success(CONTROL, 1.0)), _success(CANARY, 0.0))
    assert decide(after) == decide(decided)


def test_share_is_ramped_step_by_step_before_the_verdict():
    state, shares = begin(CanaryPolicy()), []
    while decide(state).verdict is Verdict.UNDECIDED:
        shares.append(decide(state).share)
        state = fold(fold(state, _success(CONTROL, 1.0)), _success(CANARY, 1.0))
    assert sorted(shares) == shares
    assert set(shares) == {0.05, 0.25, 0.5}
    assert decide(state).verdict is Verdict.PROMOTE


def test_cap_of_outcomes_keeps_the_old_release():
    policy = CanaryPolicy(cap_outcomes=30, margin=0.01)
    state = _run(policy, _success(CONTROL, 1.0), _success(CANARY, 1.0), times=40)
    decision = decide(state)
    assert (decision.verdict, decision.share) == (Verdict.INCONCLUSIVE, 0)
    assert decision.evidence.canary_outcomes == 30


def test_cap_of_days_keeps_the_old_release_even_without_any_outcome():
    state = begin(CanaryPolicy(cap_days=2))
    assert decide(state, elapsed_seconds=2 * 86_400 - 1).verdict is Verdict.UNDECIDED
    assert decide(state, elapsed_seconds=2 * 86_400).verdict is Verdict.INCONCLUSIVE


def test_verdict_reached_before_the_cap_of_days_stands():
    state = _run(CanaryPolicy(), _success(CONTROL, 0.0), _success(CANARY, 1.0), times=50)
    assert decide(state, elapsed_seconds=1e9).verdict is Verdict.PROMOTE


def _outcome(guardrail, arm, value):
    return CanaryOutcome(
        arm=arm,
        is_error=bool(value) if guardrail is Guardrail.ERROR else None,
        tokens=value if guardrail is Guardrail.TOKENS else None,
        latency_ms=value if guardrail is Guardrail.LATENCY else None,
    )


@pytest.mark.parametrize("guardrail", list(Guardrail))
def test_harmful_canary_is_rolled_back_by_each_guardrail(guardrail):
    state = begin(CanaryPolicy())
    for i in range(100):
        quiet = 0 if guardrail is Guardrail.ERROR else 100 + i % 10
        state = fold(state, _outcome(guardrail, CONTROL, quiet))
        state = fold(state, _outcome(guardrail, CANARY, 1000))
    decision = decide(state)
    assert decision.verdict is Verdict.ROLL_BACK
    assert guardrail.value in decision.reason
    fired = next(part for part in decision.evidence.guardrails if part.guardrail is guardrail)
    assert fired.has_fired
    assert fired.e_value >= fired.threshold == pytest.approx(60)


@pytest.mark.parametrize("guardrail", list(Guardrail))
def test_harmless_canary_is_never_promoted_by_a_guardrail(guardrail):
    state = begin(CanaryPolicy())
    for i in range(300):
        loud = 1 if guardrail is Guardrail.ERROR else 100 + i % 10
        state = fold(state, _outcome(guardrail, CONTROL, loud))
        state = fold(state, _outcome(guardrail, CANARY, 0))
    assert decide(state).verdict is Verdict.UNDECIDED


def test_guardrail_that_does_not_act_is_shown_and_rolls_nothing_back():
    state = begin(CanaryPolicy(guardrails=(Guardrail.ERROR,)))
    for i in range(100):
        state = fold(state, _outcome(Guardrail.LATENCY, CONTROL, 100 + i % 10))
        state = fold(state, _outcome(Guardrail.LATENCY, CANARY, 1000))
    decision = decide(state)
    latency = next(
        part for part in decision.evidence.guardrails if part.guardrail is Guardrail.LATENCY
    )
    assert (latency.has_fired, latency.is_acting) == (True, False)
    assert decision.verdict is Verdict.UNDECIDED


def test_cut_of_a_guardrail_does_not_move_within_a_pair():
    state = begin(CanaryPolicy())
    for i in range(20):
        state = fold(state, _outcome(Guardrail.LATENCY, CONTROL, 100.0 + i))
    before = state.guardrails[2].cut
    for _ in range(50):
        state = fold(state, _outcome(Guardrail.LATENCY, CONTROL, 900.0))
    assert state.guardrails[2].cut == before == 117.0
    state = fold(state, _outcome(Guardrail.LATENCY, CANARY, 100.0))
    assert state.guardrails[2].cut == 900.0


def test_harm_comes_before_a_success():
    state = _run(CanaryPolicy(), _success(CONTROL, 0.0), _success(CANARY, 1.0), times=50)
    for _ in range(100):
        state = fold(state, CanaryOutcome(arm=CANARY, is_error=True))
        state = fold(state, CanaryOutcome(arm=CONTROL, is_error=False))
    assert decide(state).verdict is Verdict.ROLL_BACK


def test_broken_assignment_stops_the_canary_with_its_own_verdict():
    state = begin(CanaryPolicy())
    for _ in range(400):
        state = fold(state, CanaryOutcome(arm=CONTROL, planned_share=0.05))
    decision = decide(state)
    assert (decision.verdict, decision.share) == (Verdict.SAMPLE_RATIO_MISMATCH, 0)
    assert decision.evidence.canary_units == 0


def test_interleaving_of_two_feeds_does_not_matter():
    labels = [_success(CANARY if i % 3 else CONTROL, float(i % 2)) for i in range(60)]
    records = [_outcome(Guardrail.LATENCY, CANARY if i % 3 else CONTROL, i % 17) for i in range(90)]
    one, other = begin(CanaryPolicy()), begin(CanaryPolicy())
    for outcome in labels + records:
        one = fold(one, outcome)
    for outcome in records + labels:
        other = fold(other, outcome)
    assert one == other


def test_state_survives_json_bit_for_bit():
    state = begin(CanaryPolicy(shares=(0.25, 0.5), guardrails=(Guardrail.ERROR,)))
    for i in range(200):
        arm = CANARY if i % 4 == 0 else CONTROL
        outcome = CanaryOutcome(
            arm=arm,
            success=(i % 7) / 6,
            latency_ms=math.sqrt(i),
            tokens=i,
            is_error=i % 50 == 0,
            planned_share=0.25,
        )
        state = fold(state, outcome)
        text = json.dumps(to_json(state), allow_nan=False)
        assert from_json(CanaryState, json.loads(text)) == state


@pytest.mark.parametrize(
    "outcome",
    [
        CanaryOutcome(arm=CANARY, success=1.5),
        CanaryOutcome(arm=CANARY, latency_ms=math.nan),
        CanaryOutcome(arm=CANARY, planned_share=0.0),
    ],
)
def test_impossible_outcome_is_refused(outcome):
    with pytest.raises(Invalid):
        fold(begin(CanaryPolicy()), outcome)


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("margin", 0),
        ("margin", 1),
        ("alpha_promote", 0),
        ("alpha_rollback", 0.9),
        ("alpha_share", 0),
        ("shares", ()),
        ("shares", (0.5, 0.25)),
        ("shares", (0.5, 1.0)),
        ("ramp_margins", (0.1,)),
        ("cap_outcomes", 0),
        ("cap_days", 0),
        ("guardrails", (Guardrail.ERROR, Guardrail.ERROR)),
        ("guardrail_tolerance", 0.3),
    ],
)
def test_policy_out_of_range_is_refused_by_name(param, value):
    with pytest.raises(Invalid) as raised:
        CanaryPolicy(**{param: value})
    assert raised.value.param == param
