"""Monitors of a live release: a baseline of its own first values, then an e-detector on it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from shared.errors import Invalid
from shared.statistics.edetector import EDetector
from shared.statistics.eprocess import mean
from shared.statistics.intervals import wilson_upper

# A ceiling of 1 could never be exceeded and would divide by zero; a release that always failed may
# as well be reported as failing.
HIGHEST_CEILING = 0.999


class Metric(StrEnum):
    FAILURE = "failure"
    LATENCY = "latency_ms"
    TOKENS = "tokens"


class Event(StrEnum):
    """What counts as 1 in a detector; quantiles are the baseline's own."""

    FAILED = "failed"
    ABOVE_Q90 = "above_q90"
    ABOVE_Q50 = "above_q50"
    BELOW_Q50 = "below_q50"
    BELOW_Q10 = "below_q10"


# Answers that suddenly become short are a drift too; faster answers are not. Quantile events need
# no assumption on the tails, which means of latencies and tokens would.
EVENTS = {
    Metric.FAILURE: (Event.FAILED,),
    Metric.LATENCY: (Event.ABOVE_Q90, Event.ABOVE_Q50),
    Metric.TOKENS: (Event.ABOVE_Q90, Event.ABOVE_Q50, Event.BELOW_Q50, Event.BELOW_Q10),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftPolicy:
    """
    The numbers of one monitor, fixed when it begins.

    Attributes:
        mean_run_length: A: mean number of values to a false alarm is at least this.
        baseline_outcomes: Values after promotion that make the baseline. Few are paid for with
            delay: the ceiling is the upper bound of the baseline's rate.
        baseline_confidence: Of those one-sided bounds, together over a metric's events.

    Raises:
        Invalid: A number is out of range; `param` names it.
    """

    mean_run_length: float = 10_000.0
    baseline_outcomes: int = 30
    baseline_confidence: float = 0.95

    def __post_init__(self) -> None:
        for param, holds, rule in (
            ("mean_run_length", self.mean_run_length >= 100, "is at least 100"),
            ("baseline_outcomes", 30 <= self.baseline_outcomes <= 2_000, "lies in 30..2000"),
            ("baseline_confidence", 0.5 <= self.baseline_confidence < 1, "lies in [0.5, 1)"),
        ):
            if not holds:
                raise Invalid(
                    f"The drift policy's {param} is out of range: it {rule}.",
                    code="drift_policy_invalid",
                    param=param,
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """
    What one row of a feed says about a live release; None where it is no evidence.

    Attributes:
        success: 1 or 0, or a score in [0, 1].
        latency_ms: Milliseconds of an uncached answer of the release itself.
        tokens: Tokens of such an answer.
    """

    success: float | None = None
    latency_ms: float | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Baseline:
    """Pinned for the release's life: *mean* is the failure rate, or the metric's mean."""

    n: int
    mean: float
    q10: float
    q50: float
    q90: float


@dataclass(frozen=True, slots=True)
class EventTest:
    """A detector on one event; *cut* is in the metric's unit (None for failures),
    *rate* the baseline's own.
    """

    event: Event
    cut: float | None
    rate: float
    detector: EDetector


@dataclass(frozen=True, slots=True)
class MonitorState:
    """
    One monitor: one metric of one live release.

    Attributes:
        collected: Values of the baseline to come; empty once it is pinned.
        n: Values since the baseline or the last restart.
    """

    metric: Metric
    policy: DriftPolicy
    collected: tuple[float, ...] = ()
    baseline: Baseline | None = None
    tests: tuple[EventTest, ...] = ()
    n: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """
    An alarm and what it rests on.

    Attributes:
        metric: Of the monitor.
        event: The event with the strongest evidence; the rates below are of this event.
        cut: Value above or below which the event happened, in the metric's unit; None for failures.
        statistic: Of the monitor; reached *threshold*.
        threshold: A.
        observations: Values since the baseline (or the last restart).
        baseline_n: Values that made the baseline.
        baseline_rate: The event's rate among them, in [0, 1].
        ceiling: Upper bound of that rate, which the detector takes as "all is well".
        onset_observations_ago: Values since the change most probably began, with the last one.
        current_rate: The event's rate since the onset, in [0, 1].
        may_retrain: Only outcomes say that a model became worse; the rest is for people.
        guarantee: The bound on false alarms.
    """

    metric: Metric
    event: Event
    cut: float | None
    statistic: float
    threshold: float
    observations: int
    baseline_n: int
    baseline_rate: float
    ceiling: float
    onset_observations_ago: int
    current_rate: float
    may_retrain: bool
    guarantee: str


def begin(metric: Metric, policy: DriftPolicy) -> MonitorState:
    """A monitor of a release that has just become live."""
    return MonitorState(metric, policy)


def value_of(metric: Metric, observation: Observation) -> float | None:
    """The value of a metric in an observation, high is bad for failures; None is no evidence."""
    if metric is Metric.FAILURE:
        return None if observation.success is None else 1.0 - observation.success
    value = observation.latency_ms if metric is Metric.LATENCY else observation.tokens
    return None if value is None else float(value)


def fold(state: MonitorState, observation: Observation) -> MonitorState:
    """
    One more row of a feed.

    An alarm stops the fold until `restart`, so that it does not matter in which batches a feed is
    folded and when somebody looks.

    Raises:
        Invalid: A value is not finite or, for success, outside [0, 1].

    Cost: under 0.1 ms; O(baseline_outcomes) for the value that completes the baseline.
    """
    value = value_of(state.metric, observation)
    if value is None or is_alarming(state):
        return state
    _check(state.metric, value)
    if state.baseline is None:
        return _collect(state, value)
    return replace(
        state,
        tests=tuple(
            replace(test, detector=test.detector.advance(_hit(test, value))) for test in state.tests
        ),
        n=state.n + 1,
    )


def statistic(state: MonitorState) -> float:
    """Mean over the monitor's detectors, which keeps the bound of each; 0 before the baseline."""
    return mean(tuple(test.detector.statistic for test in state.tests)) if state.tests else 0.0


def is_alarming(state: MonitorState) -> bool:
    return statistic(state) >= state.policy.mean_run_length


def decide(state: MonitorState) -> Alert | None:
    """The alarm that the state calls for, or None. Ask after every `fold`, then `restart`."""
    if state.baseline is None or not is_alarming(state):
        return None
    test = max(state.tests, key=lambda test: test.detector.statistic)
    change = test.detector.change
    return Alert(
        metric=state.metric,
        event=test.event,
        cut=test.cut,
        statistic=statistic(state),
        threshold=state.policy.mean_run_length,
        observations=state.n,
        baseline_n=state.baseline.n,
        baseline_rate=test.rate,
        ceiling=test.detector.ceiling,
        onset_observations_ago=change.count,
        current_rate=change.total / change.count,
        may_retrain=state.metric is Metric.FAILURE,
        guarantee=guarantee(state.policy),
    )


def restart(state: MonitorState) -> MonitorState:
    """The monitor after its alarm is recorded: same baseline, no evidence."""
    tests = tuple(replace(test, detector=test.detector.restart()) for test in state.tests)
    return replace(state, tests=tests, n=0)


def guarantee(policy: DriftPolicy) -> str:
    """What an alarm of this policy promises."""
    return (
        "While the rate stays at or below the ceiling, at least"
        f" {policy.mean_run_length:g} values of this metric pass on average before a false alarm."
        " The ceilings cover the baseline's true rates with confidence"
        f" {policy.baseline_confidence:g}. Assumes no swing above them."
    )


def _check(metric: Metric, value: float) -> None:
    if not math.isfinite(value) or (metric is Metric.FAILURE and not 0 <= value <= 1):
        raise Invalid(
            f"An observation of {metric} is out of range: {value}.", code="observation_out_of_range"
        )


def _collect(state: MonitorState, value: float) -> MonitorState:
    collected = (*state.collected, value)
    if len(collected) < state.policy.baseline_outcomes:
        return replace(state, collected=collected)
    baseline = pin_baseline(collected)
    tests = tuple(
        _test(state.metric, event, baseline, collected, state.policy)
        for event in EVENTS[state.metric]
    )
    return replace(state, collected=(), baseline=baseline, tests=tests)


def pin_baseline(values: tuple[float, ...]) -> Baseline:
    """
    The baseline of a metric's first values, shape (n,), n >= 1, in the metric's unit.

    Quantiles are order statistics, so that "above q90" is an event that was really seen.
    """
    ordered = sorted(values)
    q10, q50, q90 = (ordered[math.ceil(q * len(ordered)) - 1] for q in (0.1, 0.5, 0.9))
    return Baseline(len(values), math.fsum(values) / len(values), q10, q50, q90)


def _test(
    metric: Metric, event: Event, baseline: Baseline, values: tuple[float, ...], policy: DriftPolicy
) -> EventTest:
    cut = _cut(event, baseline)
    hits = math.fsum(_event(event, cut, value) for value in values)
    # Shared among the metric's events, so that all their ceilings hold together.
    risk = (1 - policy.baseline_confidence) / len(EVENTS[metric])
    upper = wilson_upper(hits, len(values), confidence=1 - risk)
    detector = EDetector(min(upper, HIGHEST_CEILING))
    return EventTest(event, cut, hits / len(values), detector)


def _cut(event: Event, baseline: Baseline) -> float | None:
    match event:
        case Event.FAILED:
            return None
        case Event.ABOVE_Q90:
            return baseline.q90
        case Event.ABOVE_Q50 | Event.BELOW_Q50:
            return baseline.q50
        case Event.BELOW_Q10:
            return baseline.q10


def _hit(test: EventTest, value: float) -> float:
    return _event(test.event, test.cut, value)


def _event(event: Event, cut: float | None, value: float) -> float:
    if cut is None:
        return value  # a failure is its own event
    is_above = event in {Event.ABOVE_Q90, Event.ABOVE_Q50}
    return float(value > cut if is_above else value < cut)
