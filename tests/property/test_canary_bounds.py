"""The canary's promises, by simulation: false verdicts, sample sizes, looks, swings.

The simulation is a vectorised twin of the shipped fold; a test shows on samples that both have the
same products to the last bit. One row of the twin is one canary.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from services.releases.domain import CanaryOutcome, CanaryPolicy, Verdict, begin, decide, fold
from shared.assignment import Arm
from shared.statistics.eprocess import PROMOTE_BETS, ROLLBACK_BETS
from shared.statistics.sharetest import RATIOS, ShareTest

ALPHA, MARGIN, BASE = 0.05, 0.05, 0.90
RUNS, MOST_PAIRS = 1500, 4000
LIMIT = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / RUNS)


@pytest.fixture(params=[20261122], ids="seed={}".format)  # the seed is in every test's name
def rng(request):
    return np.random.default_rng(request.param)


def draw_pairs(rng, runs, share, canary_rate, control_rate):
    """Canaries and controls of one pair per run: counts and successes, each shape (runs,)."""
    is_canary_first = rng.random(runs) < share
    waiting = rng.geometric(np.where(is_canary_first, 1 - share, share))
    canaries = np.where(is_canary_first, waiting, 1)
    controls = np.where(is_canary_first, 1, waiting)
    return (
        canaries,
        rng.binomial(canaries, canary_rate),
        controls,
        rng.binomial(controls, control_rate),
    )


def draw_stratified_pairs(rng, runs, share, canary_rate, control_rate):
    """One canary and exactly its share of controls, as when requests are dealt out in turn."""
    controls = np.full(runs, round((1 - share) / share))
    canaries = np.ones(runs, dtype=int)
    return (
        canaries,
        rng.binomial(canaries, canary_rate),
        controls,
        rng.binomial(controls, control_rate),
    )


def advance(products, bets, gains):
    return products * (1.0 + np.multiply.outer(gains, np.array(bets)))


def simulate(rng, *, share, delta, base=lambda canaries: BASE, every=1, draw=draw_pairs):
    """Verdicts (+1 promote, -1 roll back, 0 none) and canary outcomes used, each shape (runs,)."""
    promote = np.ones((RUNS, len(PROMOTE_BETS)))
    rollback = np.ones((RUNS, len(ROLLBACK_BETS)))
    seen, looked, verdict = (np.zeros(RUNS, dtype=int) for _ in range(3))
    for _ in range(MOST_PAIRS):
        open_ = np.flatnonzero(verdict == 0)
        if not len(open_):
            break
        rate = np.clip(base(seen[open_]), 0, 1)
        n, good, m, control_good = draw(rng, len(open_), share, rate + delta, rate)
        difference = good / n - control_good / m
        promote[open_] = advance(promote[open_], PROMOTE_BETS, difference + MARGIN)
        rollback[open_] = advance(rollback[open_], ROLLBACK_BETS, -difference)
        seen[open_] += n
        may_look = seen[open_] // every > looked[open_]
        looked[open_] = seen[open_] // every
        is_promoted = may_look & (promote[open_].mean(axis=1) >= 1 / ALPHA)
        is_rolled_back = may_look & (rollback[open_].mean(axis=1) >= 1 / ALPHA)
        verdict[open_] = np.where(is_rolled_back, -1, np.where(is_promoted, 1, 0))
    return verdict, seen


def sprt_samples(rng, rate):
    """Mean samples of Wald's test of 0.85 against 0.90, which knows the control's rate."""
    good, bad = math.log(0.85 / 0.90), math.log(0.15 / 0.10)
    bound = math.log((1 - ALPHA) / ALPHA)
    totals = np.cumsum(np.where(rng.random((RUNS, 3000)) < rate, good, bad), axis=1)
    is_over = np.abs(totals) >= bound
    assert is_over.any(axis=1).all()
    return (is_over.argmax(axis=1) + 1).mean()


@pytest.mark.parametrize("share", [0.05, 0.5])
@pytest.mark.parametrize("delta", [-0.05, -0.10, -0.20])
def test_canary_worse_by_the_margin_is_rarely_promoted(rng, share, delta):
    verdict, _ = simulate(rng, share=share, delta=delta)
    assert (verdict == 1).mean() <= LIMIT
    assert (verdict != 0).mean() > 0.99


@pytest.mark.parametrize("share", [0.05, 0.5])
@pytest.mark.parametrize("delta", [0.0, 0.02])
def test_canary_that_is_not_worse_is_rarely_rolled_back(rng, share, delta):
    verdict, _ = simulate(rng, share=share, delta=delta)
    assert (verdict == -1).mean() <= LIMIT
    assert (verdict != 0).mean() > 0.99


@pytest.mark.parametrize("delta", [-0.20, -0.10, -0.05, 0.0, 0.02])
@pytest.mark.parametrize(
    ("draw", "ratio"),
    # Random assignment leaves some pairs with one control only, which costs up to a fifth more.
    [(draw_stratified_pairs, 1.35), (draw_pairs, 1.6)],
)
def test_samples_are_near_the_optimum_that_knows_the_control(rng, draw, ratio, delta):
    _, seen = simulate(rng, share=0.05, delta=delta, draw=draw)
    assert seen.mean() <= ratio * sprt_samples(rng, BASE + delta)


@pytest.mark.parametrize("every", [1, 50])
def test_how_often_somebody_looks_does_not_matter(rng, every):
    worse, _ = simulate(rng, share=0.05, delta=-MARGIN, every=every)
    equal, _ = simulate(rng, share=0.05, delta=0.0, every=every)
    assert (worse == 1).mean() <= LIMIT
    assert (equal == -1).mean() <= LIMIT


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_base_rate_that_swings_does_not_matter(rng, share):
    def swing(canaries):
        return 0.85 + 0.10 * np.sin(2 * np.pi * canaries / 800)

    worse, _ = simulate(rng, share=share, delta=-MARGIN, base=swing)
    equal, _ = simulate(rng, share=share, delta=0.0, base=swing)
    assert (worse == 1).mean() <= LIMIT
    assert (equal == -1).mean() <= LIMIT


@pytest.mark.parametrize(
    ("bets", "sign", "delta"), [(PROMOTE_BETS, 1, -MARGIN), (ROLLBACK_BETS, -1, 0.0)]
)
@pytest.mark.parametrize("share", [0.05, 0.5])
def test_mean_e_value_is_at_most_one_on_the_boundary(rng, bets, sign, delta, share):
    runs = 100_000
    products = np.ones((runs, len(bets)))
    for step in range(1, 31):
        n, good, m, control_good = draw_pairs(rng, runs, share, BASE + delta, BASE)
        products = advance(products, bets, sign * (good / n - control_good / m - delta))
        if step in {1, 5, 30}:
            values = products.mean(axis=1)
            assert values.mean() <= 1 + 3 * values.std() / math.sqrt(runs)


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_twin_has_the_products_of_the_shipped_fold_to_the_last_bit(rng, share):
    for _ in range(20):
        state = begin(CanaryPolicy(guardrails=()))
        promote, rollback = np.ones((1, len(PROMOTE_BETS))), np.ones((1, len(ROLLBACK_BETS)))
        while decide(state).verdict is Verdict.UNDECIDED:
            n, good, m, control_good = (int(x[0]) for x in draw_pairs(rng, 1, share, 0.8, 0.9))
            for outcome in _outcomes(n, good, m, control_good):
                state = fold(state, outcome)
            difference = np.array([good / n - control_good / m])
            promote = advance(promote, PROMOTE_BETS, difference + MARGIN)
            rollback = advance(rollback, ROLLBACK_BETS, -difference)
            assert state.success.promote.products == tuple(promote[0])
            assert state.success.rollback.products == tuple(rollback[0])
        assert decide(state).verdict is not Verdict.INCONCLUSIVE


def _outcomes(n, good, m, control_good):
    """The pair's outcomes in an order that completes it with the last one."""
    canaries = [CanaryOutcome(arm=Arm.CANARY, success=float(i < good)) for i in range(n)]
    controls = [CanaryOutcome(arm=Arm.CONTROL, success=float(i < control_good)) for i in range(m)]
    return canaries + controls if m == 1 else controls + canaries


@pytest.mark.parametrize("metric", ["tokens", "latency_ms"])
def test_guardrails_of_an_equal_canary_rarely_fire(rng, metric):
    runs, fired = 300, 0
    for _ in range(runs):
        # Only this guardrail acts, so it may spend the whole bound; the level drifts over time.
        state = begin(CanaryPolicy(guardrails=(metric,)))
        values = np.rint(rng.lognormal(5, 0.6, 400) * np.linspace(1, 2, 400))
        arms = rng.random(400) < 0.5
        for value, is_canary in zip(values, arms, strict=True):
            arm = Arm.CANARY if is_canary else Arm.CONTROL
            state = fold(state, CanaryOutcome(arm=arm, **{metric: float(value)}))
        fired += decide(state).verdict is Verdict.ROLL_BACK
    assert fired / runs <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / runs)


def test_share_check_rarely_stops_a_correct_assignment_and_finds_a_wrong_one(rng):
    runs, steps, alpha = 4000, 3000, 0.01

    def first_alarm(true_factor):
        products, alarm = np.ones((runs, len(RATIOS))), np.full(runs, steps + 1)
        for step in range(steps):
            planned = 0.05 if step < 1500 else 0.25
            q = np.array([r * planned / (1 - planned + r * planned) for r in RATIOS])
            is_canary = rng.random((runs, 1)) < planned * true_factor
            products = products * np.where(is_canary, q / planned, (1 - q) / (1 - planned))
            alarm = np.where(products.mean(axis=1) >= 1 / alpha, np.minimum(alarm, step), alarm)
        return alarm

    assert (first_alarm(1.0) <= steps).mean() <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)
    assert (first_alarm(0.5) <= steps).mean() > 0.99


def test_share_twin_agrees_with_the_shipped_test(rng):
    test, products = ShareTest(), np.ones(len(RATIOS))
    for is_canary in rng.random(500) < 0.1:
        test = test.advance(is_canary=bool(is_canary), planned_share=0.1)
        q = np.array([r * 0.1 / (1 - 0.1 + r * 0.1) for r in RATIOS])
        products = products * (q / 0.1 if is_canary else (1 - q) / (1 - 0.1))
    assert test.value == pytest.approx(products.mean(), rel=1e-12)
