"""Folding a feed again gives the same bits, wherever the state was stored in between."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from services.drift import domain as drift
from services.releases import domain as releases
from shared.assignment import Arm
from shared.statistics.codec import from_json, to_json

unit = st.floats(0, 1)
positive = st.floats(0, 1e9)
outcomes = st.lists(
    st.builds(
        releases.CanaryOutcome,
        arm=st.sampled_from(Arm),
        success=st.none() | st.sampled_from([0.0, 1.0]) | unit,
        latency_ms=st.none() | positive,
        tokens=st.none() | st.integers(0, 10**6),
        is_error=st.none() | st.booleans(),
        planned_share=st.none() | st.sampled_from([0.05, 0.25, 0.5]),
    ),
    max_size=120,
)
observations = st.lists(
    st.builds(
        drift.Observation,
        success=st.none() | st.sampled_from([0.0, 1.0]) | unit,
        latency_ms=st.none() | positive,
        tokens=st.none() | st.integers(0, 10**6),
    ),
    min_size=30,
    max_size=120,
)


def _stored(kind, state):
    return from_json(kind, json.loads(json.dumps(to_json(state), allow_nan=False)))


@settings(deadline=None)  # the machine may be busy
@given(outcomes, st.sets(st.integers(0, 119)))
def test_canary_replayed_with_stops_has_the_same_bits(feed, stops):
    at_once = with_stops = releases.begin(releases.CanaryPolicy())
    for i, outcome in enumerate(feed):
        at_once, with_stops = releases.fold(at_once, outcome), releases.fold(with_stops, outcome)
        if i in stops:
            with_stops = _stored(releases.CanaryState, with_stops)
    assert json.dumps(to_json(with_stops)) == json.dumps(to_json(at_once))
    assert releases.decide(with_stops) == releases.decide(at_once)


@settings(deadline=None)  # the machine may be busy
@given(observations, st.sets(st.integers(0, 119)), st.sampled_from(drift.Metric))
def test_monitor_replayed_with_stops_has_the_same_bits(feed, stops, metric):
    at_once = with_stops = drift.begin(metric, drift.DriftPolicy(mean_run_length=100))
    for i, observation in enumerate(feed):
        at_once, with_stops = drift.fold(at_once, observation), drift.fold(with_stops, observation)
        if i in stops:
            with_stops = _stored(drift.MonitorState, with_stops)
    assert json.dumps(to_json(with_stops)) == json.dumps(to_json(at_once))
    assert drift.decide(with_stops) == drift.decide(at_once)
