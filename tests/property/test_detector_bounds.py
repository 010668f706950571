"""The detector's promises, by simulation: run length to a false alarm, delay, an own baseline.

The simulation is a vectorised twin of the shipped detector; a test shows on samples that both agree
to the last bit.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from services.drift.domain import DriftPolicy, Metric, Observation, begin, fold, is_alarming
from shared.statistics.edetector import RATIOS, EDetector, bets

P0, A = 0.10, 500.0
STREAMS = 400


@pytest.fixture(params=[20261122], ids="seed={}".format)  # the seed is in every test's name
def rng(request):
    return np.random.default_rng(request.param)


def run_lengths(rng, rate, streams=STREAMS, horizon=20_000, before=0):
    """
    Values until the alarm, shape (streams,); with *before* values at P0 first, only the delays of
    streams without an early alarm.
    """
    sums, alarm = np.zeros((streams, len(RATIOS))), np.full(streams, horizon)
    lambdas = np.array(bets(P0))
    open_ = np.arange(streams)
    for step in range(1, horizon):
        is_bad = rng.random(len(open_)) < (P0 if step <= before else rate)
        sums[open_] = (sums[open_] + 1) * (1 + np.multiply.outer(is_bad - P0, lambdas))
        has_fired = sums[open_].mean(axis=1) >= A
        alarm[open_[has_fired]] = step
        open_ = open_[~has_fired]
        if not len(open_):
            break
    return alarm[alarm > before] - before


def cusum_paths(rng, tuned, rate, *, streams, horizon, before=0):
    """Running maximum of a CUSUM tuned to *tuned*, shape (horizon, streams)."""
    up, down = math.log(tuned / P0), math.log((1 - tuned) / (1 - P0))
    level, highest = np.zeros(streams), np.zeros(streams)
    paths = np.empty((horizon, streams), dtype=np.float32)
    for step in range(horizon):
        is_bad = rng.random(streams) < (P0 if step < before else rate)
        level = np.maximum(0, level) + np.where(is_bad, up, down)
        highest = np.maximum(highest, level)
        paths[step] = highest
    return paths


def first_passage(paths, threshold):
    """Steps until the threshold; the horizon where it is not reached; shape (streams,)."""
    is_over = paths >= threshold
    return np.where(is_over.any(axis=0), is_over.argmax(axis=0) + 1, len(paths))


def calibrate(paths, wanted):
    """Threshold with which the mean run length is the wanted one, by bisection."""
    low, high = 0.0, 12.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if first_passage(paths, middle).mean() < wanted else (low, middle)
        )
    return high


def test_false_alarms_are_as_rare_as_promised(rng):
    lengths = run_lengths(rng, P0)
    assert lengths.mean() >= 0.9 * A


def test_delay_is_near_a_cusum_that_knows_the_new_rate(rng):
    wanted = run_lengths(rng, P0).mean()
    for ratio in RATIOS:
        rate = ratio * P0 / (1 - P0 + ratio * P0)
        delay = run_lengths(rng, rate, streams=1500, before=200).mean()
        calm = cusum_paths(rng, rate, P0, streams=STREAMS, horizon=6000)
        threshold = calibrate(calm, wanted)
        changed = cusum_paths(rng, rate, rate, streams=1500, horizon=2200, before=200)
        passage = first_passage(changed, threshold)
        best = (passage[passage > 200] - 200).mean()
        assert delay <= 1.25 * best, f"to {rate:.3f}: {delay:.0f}, tuned CUSUM {best:.0f}"


def test_values_between_zero_and_one_keep_the_promise(rng):
    """Ratings: the mean is at the ceiling, the values are not 0 or 1."""
    lengths = []
    for _ in range(30):
        detector, n = EDetector(0.2), 0
        while detector.statistic < 100:
            detector, n = detector.advance(float(rng.beta(0.5, 2.0))), n + 1
        lengths.append(n)
    assert np.mean(lengths) >= 0.9 * 100


@pytest.mark.parametrize("metric", [Metric.FAILURE, Metric.TOKENS])
def test_baseline_of_thirty_values_alarms_rarely_because_its_bound_pays(rng, metric):
    """Within A/5 values a detector with the exact rate alarms in at most 20 % of the runs."""
    policy, runs, alarms = DriftPolicy(mean_run_length=A), 150, 0
    for _ in range(runs):
        state = begin(metric, policy)
        bad, lengths = rng.random(130) < P0, rng.lognormal(4, 0.5, 130).astype(int)
        for is_bad, tokens in zip(bad, lengths, strict=True):
            state = fold(state, Observation(success=float(not is_bad), tokens=int(tokens)))
        alarms += is_alarming(state)
    assert alarms / runs <= 0.2


def test_twin_agrees_with_the_shipped_detector(rng):
    detector, sums = EDetector(P0), np.zeros(len(RATIOS))
    for is_bad in rng.random(2000) < P0:
        detector = detector.advance(float(is_bad))
        sums = (sums + 1) * (1 + (float(is_bad) - P0) * np.array(bets(P0)))
        assert detector.sums == tuple(sums)
