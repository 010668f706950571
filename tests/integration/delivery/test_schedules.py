"""Schedules with several schedulers."""

from __future__ import annotations

import threading

import pytest

from services.delivery.service.schedules import fire_due
from shared.context import Context
from shared.contracts.releases import FoldCanary
from shared.ids import Project
from shared.spine import schedules

A = Context.root(Project("a"), "test")


def _start(bench, seconds: float) -> None:
    with bench.app.open(A) as uow:
        schedules.every(uow, seconds, FoldCanary(release_id="rel_1"))


def _make_due(bench) -> None:
    bench.rows("UPDATE spine.schedules SET due_at = now() RETURNING 1")


def _deliveries(bench):
    return bench.rows("SELECT CAST(id AS text), task, project, key FROM spine.deliveries")


def test_a_due_schedule_fires_once_with_many_schedulers(bench):
    _start(bench, 3600)
    fire_due(bench.spine)
    assert _deliveries(bench) == []
    _make_due(bench)
    fired = []
    schedulers = [
        threading.Thread(target=lambda: fired.append(fire_due(bench.spine))) for _ in range(3)
    ]
    for scheduler in schedulers:
        scheduler.start()
    for scheduler in schedulers:
        scheduler.join()
    assert sum(fired) == 1
    ((_, task, project, key),) = _deliveries(bench)
    assert (task, project, key) == ("releases.fold_canary", "a", "rel_1")


def test_an_unfinished_delivery_is_not_doubled_and_nobody_waits_for_its_worker(bench):
    _start(bench, 3600)
    _make_due(bench)
    fire_due(bench.spine)
    ((delivery, *_),) = _deliveries(bench)
    with bench.app.open(A) as worker:
        from shared.spine import deliveries

        assert deliveries.take(worker.session, delivery) is not None
        _make_due(bench)
        assert fire_due(bench.spine) == 1
    assert _deliveries(bench) == []
    _make_due(bench)
    fire_due(bench.spine)
    assert len(_deliveries(bench)) == 1


def test_missed_periods_are_skipped_and_the_beat_is_kept(bench):
    _start(bench, 10)
    bench.rows("UPDATE spine.schedules SET due_at = now() - interval '35 s' RETURNING 1")
    assert fire_due(bench.spine) == 1
    ((wait,),) = bench.rows("SELECT extract(epoch FROM due_at - now()) FROM spine.schedules")
    assert 4 < wait <= 5
    assert fire_due(bench.spine) == 0


@pytest.mark.parametrize("broken", ["'[]'", "envelope - 'data'", "envelope || '{\"data\": {}}'"])
def test_a_schedule_that_cannot_be_read_does_not_stop_the_others(bench, broken):
    _start(bench, 3600)
    bench.rows(f"""
        INSERT INTO spine.schedules (project, type, subject, envelope, every, due_at)
        SELECT project, type, 'broken', {broken}, every, now() FROM spine.schedules RETURNING 1
    """)
    _make_due(bench)
    assert fire_due(bench.spine) == 2
    assert len(_deliveries(bench)) == 1


def test_a_schedule_of_a_type_nobody_knows_does_not_stop_the_others(bench):
    _start(bench, 3600)
    bench.rows("""
        INSERT INTO spine.schedules (project, type, subject, envelope, every, due_at)
        SELECT project, 'from.the_future.v9', subject,
               jsonb_set(envelope, '{type}', '"from.the_future.v9"'), every, now()
        FROM spine.schedules RETURNING 1
    """)
    _make_due(bench)
    assert fire_due(bench.spine) == 2
    assert len(_deliveries(bench)) == 1
