from __future__ import annotations

import json
import math

import pytest

from services.drift.domain import (
    DriftPolicy,
    Event,
    Metric,
    MonitorState,
    Observation,
    begin,
    decide,
    fold,
    restart,
    statistic,
)
from shared.errors import Invalid
from shared.statistics.codec import from_json, to_json
from shared.statistics.intervals import wilson_upper


def _run(metric, values, policy=None):
    state = begin(metric, policy or DriftPolicy())
    for value in values:
        state = fold(state, _observation(metric, value))
    return state


def _observation(metric, value):
    if metric is Metric.FAILURE:
        return Observation(success=1 - value)
    return Observation(latency_ms=value) if metric is Metric.LATENCY else Observation(tokens=value)


def test_no_alert_before_the_baseline_is_complete():
    state = _run(Metric.FAILURE, [1] * 29)
    assert state.baseline is None
    assert (statistic(state), decide(state)) == (0, None)


def test_baseline_is_pinned_at_the_minimum_with_the_upper_bound_as_ceiling():
    state = _run(Metric.FAILURE, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0] * 3)
    assert state.baseline is not None
    assert (state.baseline.n, state.baseline.mean) == (30, 0.1)
    assert state.tests[0].detector.ceiling == pytest.approx(wilson_upper(3, 30))
    assert state.collected == ()


def test_failures_raise_an_alert_that_may_retrain_and_says_when_they_began():
    state = _run(Metric.FAILURE, [0] * 130 + [1] * 40)
    alert = decide(state)
    assert alert is not None
    assert alert.may_retrain
    assert (alert.metric, alert.event, alert.cut) == (Metric.FAILURE, Event.FAILED, None)
    assert alert.statistic >= alert.threshold == 10_000
    assert (alert.baseline_n, alert.baseline_rate, alert.current_rate) == (30, 0, 1)
    assert alert.onset_observations_ago == alert.observations - 100 < 12


def test_longer_answers_raise_an_alert_that_may_not_retrain():
    state = _run(Metric.TOKENS, [90 + i * 8 % 21 for i in range(200)] + [200] * 40)
    alert = decide(state)
    assert alert is not None
    assert (alert.event, alert.may_retrain) == (Event.ABOVE_Q90, False)


def test_shorter_answers_are_a_drift_too():
    state = _run(Metric.TOKENS, [90 + i * 8 % 21 for i in range(200)] + [2] * 40)
    alert = decide(state)
    assert alert is not None
    assert alert.event is Event.BELOW_Q10


def test_slower_answers_raise_an_alert_and_faster_ones_do_not():
    steady = [400.0 + i * 17 % 37 for i in range(200)]
    assert decide(_run(Metric.LATENCY, steady + [900.0] * 60)) is not None
    assert decide(_run(Metric.LATENCY, steady + [100.0] * 600)) is None


def test_steady_stream_stays_silent():
    assert decide(_run(Metric.TOKENS, [90 + i * 8 % 21 for i in range(3000)])) is None


def test_constant_metric_is_a_legal_baseline():
    state = _run(Metric.TOKENS, [5] * 60)
    assert decide(state) is None
    assert state.baseline is not None
    assert (state.baseline.q10, state.baseline.q90) == (5, 5)


def test_release_that_always_failed_can_be_monitored():
    assert statistic(_run(Metric.FAILURE, [1] * 40)) > 0


def test_alarm_holds_until_restart_and_restart_keeps_the_baseline():
    state = _run(Metric.FAILURE, [0] * 30 + [1] * 40)
    alert = decide(state)
    later = fold(state, Observation(success=1.0))
    assert later == state
    fresh = restart(later)
    assert decide(fresh) is None
    assert fresh.baseline == state.baseline
    assert [test.cut for test in fresh.tests] == [test.cut for test in state.tests]
    again = fresh
    for _ in range(40):
        again = fold(again, Observation(success=0.0))
    assert decide(again) is not None
    assert alert is not None


def test_row_without_the_metric_is_no_evidence():
    state = begin(Metric.LATENCY, DriftPolicy())
    assert fold(state, Observation(success=0.0, tokens=3)) == state


def test_slow_drift_is_dated_to_its_beginning_however_long_ago():
    policy = DriftPolicy(baseline_outcomes=200)
    alert = decide(_run(Metric.FAILURE, [1, 0, 0, 0, 0] * 100 + [1, 0, 0] * 1000, policy))
    assert alert is not None
    assert alert.onset_observations_ago == pytest.approx(alert.observations - 300, abs=5)
    assert alert.onset_observations_ago > 300
    assert alert.current_rate == pytest.approx(1 / 3, abs=0.01)


def test_state_survives_json_bit_for_bit():
    for metric in Metric:
        state = begin(metric, DriftPolicy())
        for i in range(120):
            state = fold(state, Observation(success=(i % 5) / 4, latency_ms=math.sqrt(i), tokens=i))
            text = json.dumps(to_json(state), allow_nan=False)
            assert from_json(MonitorState, json.loads(text)) == state


@pytest.mark.parametrize(
    ("metric", "observation"),
    [
        (Metric.FAILURE, Observation(success=2.0)),
        (Metric.FAILURE, Observation(success=math.nan)),
        (Metric.LATENCY, Observation(latency_ms=math.inf)),
    ],
)
def test_impossible_observation_is_refused(metric, observation):
    with pytest.raises(Invalid, match="out of range"):
        fold(begin(metric, DriftPolicy()), observation)


@pytest.mark.parametrize(
    ("param", "value"),
    [("mean_run_length", 1), ("baseline_outcomes", 29), ("baseline_confidence", 1.0)],
)
def test_policy_out_of_range_is_refused_by_name(param, value):
    with pytest.raises(Invalid) as raised:
        DriftPolicy(**{param: value})
    assert raised.value.param == param
