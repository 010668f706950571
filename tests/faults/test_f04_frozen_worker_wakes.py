"""F-04: a worker and a lease holder stopped for two leases in the middle of a write, then woken."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.faults.holder import BETWEEN_STEPS, IN_STEP
from tests.faults.layout import Layout
from tests.faults.load import Rates
from tests.faults.probes import AFTER_EFFECT, BEFORE_EFFECT
from tests.faults.trial import Bound
from tests.faults.watching import until

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
    with trial.load(Rates(probes=2, phased=0.3, jobs=0.6, api=0.5), hold_seconds=0.3) as load:
        for number in trial.rounds():
            trial.pause()
            within = trial.in_turn([BEFORE_EFFECT, AFTER_EFFECT], number)
            step = trial.in_turn([BETWEEN_STEPS, IN_STEP], number // 2)
            is_late = freeze(stack, trial, within, step)
            trial.recovered(load, bound, cut_off=1)
            trial.expect(not is_late(), f"written before the freeze, committed after: {is_late()}")
    trial.note(f"{len(refusals(stack))} writes of a holder were refused for their old fence")
    trial.expect(not late_steps(stack), f"written after a takeover: {late_steps(stack)}")
    trial.conclude(load, bound)


def freeze(stack, trial, within: str, step: str) -> Callable[[], set[str]]:
    """
    Stop one worker and one holder for two leases, and wake them again.

    Returns:
        What the worker had written when it was stopped and committed all the same, by number.
    """
    with stack.frozen_while(stack.names("worker"), within) as worker:
        stopped, family = time.time(), [str(pid) for pid in stack.family(worker)]
        committed = written(stack, family, stopped)
        with stack.frozen_while(stack.names("holder"), step) as holder:
            subject, fence = held_by(stack, holder)
            time.sleep(2 * stack.settings.lease_seconds)
            longest = oldest_transaction(stack)
            until(lambda: is_taken_over(stack, subject, fence), what=f"{subject} is taken over")
    allowed = stack.settings.idle_transaction_milliseconds / 1000 + SLACK_SECONDS
    trial.expect_timely(longest < allowed, f"a transaction was idle for {longest:.1f} s")
    if step == BETWEEN_STEPS:
        until(lambda: (subject, fence) in refusals(stack), what=f"{holder} is refused")
    return lambda: written(stack, family, stopped) - committed


def held_by(stack, holder: str) -> tuple[str, int]:
    """Subject and fence of the lease that a holder has now."""
    ((subject, fence),) = stack.rows(
        "SELECT subject, fence FROM spine.leases WHERE owner = %s", f"holder-{stack.pid(holder)}"
    )
    return subject, fence


def is_taken_over(stack, subject: str, fence: int) -> bool:
    """Whether another holder has claimed it since; it may even be done."""
    return not stack.rows(
        "SELECT FROM spine.leases WHERE subject = %s AND fence = %s", subject, fence
    )


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


def refusals(stack) -> set[tuple[str, int]]:
    """Subjects and fences of writes that were refused."""
    return set(stack.rows("SELECT number, fence FROM faults.refusals"))


def late_steps(stack) -> list[tuple[str, int]]:
    """Steps that were written under a fence after one with a higher fence was."""
    return stack.rows("""
        SELECT late.number, late.step FROM faults.steps AS late JOIN faults.steps AS earlier
        ON earlier.number = late.number AND earlier.seq < late.seq AND earlier.fence > late.fence
    """)
