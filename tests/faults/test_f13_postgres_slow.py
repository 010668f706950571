"""F-13: Postgres far away or behind a lock that somebody else holds, inside one load."""

from __future__ import annotations

import time

from shared.testing.gate import Weather
from tests.faults.layout import Layout
from tests.faults.trial import REFUSING, bound_of_ringing

FAULT = "F-13"
LAYOUT = Layout(has_gates=True)
LOCKED = ("spine.deliveries", "spine.audit_entries", "feedback.entries", "spine.idempotency_keys")
# What Python takes for a while and gives back late.
MEMORY_MIB = 64


def test_slow_postgres_piles_nothing_up(stack, trial):
    """Every packet to and from Postgres delayed by half a second to a second.

    Guarantee: the API does it or answers 503 in time; the queue waits; connections and memory stay
    within their limits; everything is done afterwards.
    """
    gate = stack.postgres_gate

    def slow():
        return gate.during(Weather(delay_seconds=trial.chance.uniform(0.5, 1)))

    pile_up(stack, trial, slow, within_seconds=API_SLOW_SECONDS)


def test_a_held_lock_piles_nothing_up(stack, trial):
    """A table locked by another session for two to four seconds.

    Guarantee: as above; who waits for the lock is told so after the lock timeout.
    """

    def locked():
        return stack.locked(trial.chance.choice(LOCKED))

    settings = stack.settings
    within = settings.database_pool_seconds + 2 * settings.lock_timeout_milliseconds / 1000 + 2
    pile_up(stack, trial, locked, within_seconds=within)


# A request is a dozen round trips of up to two seconds each, and waits for a connection before.
API_SLOW_SECONDS = 15.0


def pile_up(stack, trial, fault, *, within_seconds):
    limit = stack.settings.task_hard_limit_seconds
    bound = bound_of_ringing(
        stack.settings,
        more_seconds=limit,
        why=f"a task in its midst ends at its hard limit {limit} s, ",
    )
    most = 0
    with trial.load() as load:
        trial.pause()
        before = stack.memory_bytes()
        for _ in trial.rounds(full=10):
            trial.pause()
            until = time.monotonic() + trial.chance.uniform(2, 4)
            with fault():
                while time.monotonic() < until:
                    most = max(most, count_connections(stack))
                    time.sleep(0.2)
            trial.recovered(load, bound, cut_off=4 * stack.layout.workers)
        after = stack.memory_bytes()
    grown = {name: (after.get(name, 0) - size) >> 20 for name, size in before.items()}
    trial.note(
        f"at most {most} connections of {most_connections(stack)}; memory grew by MiB {grown}; "
        f"the API answered {dict(load.answers)}, at most in "
        f"{max(each.seconds for each in load.exchanges):.1f} s"
    )
    trial.contradictions += load.unfit_answers(within_seconds=within_seconds)
    for name, size in grown.items():
        trial.expect(size <= MEMORY_MIB, f"{name} grew by {size} MiB")
    trial.expect(most <= most_connections(stack), f"there were {most} connections")
    trial.conclude(load, bound, answers=REFUSING)


def count_connections(stack):
    ((count,),) = stack.rows(
        "SELECT count(*) FROM pg_stat_activity WHERE usename IN ('app', 'spine')"
    )
    return count


def most_connections(stack):
    """All pools full: two in every process, worker children too, and one in the test itself."""
    layout, pool = stack.layout, stack.settings.database_pool_connections
    processes = 1 + layout.deliveries + layout.holders + 2 * layout.workers
    return processes * (pool + 3) + pool
