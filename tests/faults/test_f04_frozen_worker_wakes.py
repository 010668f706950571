"""F-04: a worker and a lease holder stopped for two leases in the middle of a write, then woken."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.faults.holder import BETWEEN_STEPS, IN_STEP
from tests.faults.load import Rates
from tests.faults.probes import AFTER_EFFECT, BEFORE_EFFECT
from tests.faults.stack import Layout, until
from tests.faults.trial import Bound

FAULT = "F-04"
LAYOUT = Layout(holders=2)
WAKING_SECONDS = 5.0

SLACK_SECONDS = 1.0


def test_what_a_frozen_worker_writes_after_its_lease_is_refused(stack, trial):
    """A worker within its transaction and a holder within its lease frozen for two leases.

    Guarantee: a frozen process holds nobody up for longer than its transaction or its lease may
    idle, and when it wakes up, what it was about to write is refused.
    """
    settings = stack.settings
    bound = Bound(
        settings.ring_again_seconds + WAKING_SECONDS,
        f"frozen for two leases, in which all it held has ended; then a ringing again "
        f"({settings.ring_again_seconds} s) and the work that waited ({WAKING_SECONDS} s)",
    )
    with trial.load(Rates(probes=2, phased=0.3, jobs=1.2, api=1), hold_seconds=0.4) as load:
        for number in trial.rounds():
            trial.pause()
            within = trial.in_turn([BEFORE_EFFECT, AFTER_EFFECT], number)
            step = trial.in_turn([BETWEEN_STEPS, IN_STEP], number // 2)
            is_late = freeze(stack, trial, within, step)
            trial.recovered(load, bound, cut_off=1)
            trial.expect(not is_late(), f"written before the freeze, committed after: {is_late()}")
    trial.note(f"{refusals(stack)} writes of a holder were refused for their old fence")
    trial.conclude(load, bound)


def freeze(stack, trial, within: str, step: str) -> Callable[[], set[str]]:
    """
    Stop one worker and one holder for two leases, and wake them again.

    Returns:
        What the worker had written when it was stopped and committed all the same, by number.
    """
    worker, holder = (trial.chance.choice(stack.names(role)) for role in ("worker", "holder"))
    with stack.frozen_while(worker, within):
        stopped, family = time.time(), [str(pid) for pid in stack.family(worker)]
        committed = written(stack, family, stopped)
        with stack.frozen_while(holder, step):
            refused = refusals(stack)
            time.sleep(2 * stack.settings.lease_seconds)
            longest = oldest_transaction(stack)
    allowed = stack.settings.idle_transaction_milliseconds / 1000 + SLACK_SECONDS
    trial.expect(longest < allowed, f"a transaction was idle for {longest:.1f} s")
    if step == BETWEEN_STEPS:
        until(lambda: refusals(stack) > refused, what=f"the late write of {holder} is refused")
    return lambda: written(stack, family, stopped) - committed


def written(stack, family: list[str], before: float) -> set[str]:
    """Numbers whose effect was written by one of a family before a Unix time, and committed."""
    return {
        number
        for (number,) in stack.rows(
            "SELECT number FROM faults.effects WHERE by = ANY(%s) AND at <= to_timestamp(%s)",
            family,
            before,
        )
    }


def oldest_transaction(stack) -> float:
    """How long the longest transaction of our tasks has been idle, in seconds."""
    ((seconds,),) = stack.rows("""
        SELECT coalesce(max(extract(epoch FROM clock_timestamp() - state_change)), 0)::float8
        FROM pg_stat_activity WHERE usename = 'app' AND state LIKE 'idle in transaction%%'
          AND datname = current_database()
    """)
    return float(seconds)


def refusals(stack) -> int:
    return len(stack.rows("SELECT FROM faults.refusals"))
