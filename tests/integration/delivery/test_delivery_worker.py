"""From a committed row to one effect, with real worker and delivery processes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import redis

pytestmark = pytest.mark.timeout(300)


def test_a_committed_row_has_one_effect_although_it_is_rung_twice(bench, eventually):
    """Guarantee: one effect per delivery, however often it is rung."""
    with bench.worker(), bench.delivery():
        ids = [bench.deliver(subject=f"wl_{n}") for n in range(20)]
        for delivery in ids:
            bench.bell._celery.send_task("drift.probe", args=[delivery], queue="drift")
        eventually(lambda: not bench.rows("SELECT 1 FROM spine.deliveries"))
        for delivery in ids:
            bench.bell._celery.send_task("drift.probe", args=[delivery], queue="drift")
        last = bench.deliver(subject="wl_last")
        eventually(lambda: not bench.rows("SELECT 1 FROM spine.deliveries"))
    assert last
    assert sorted(bench.effects()) == sorted([f"wl_{n}" for n in range(20)] + ["wl_last"])


def test_killing_the_worker_in_the_middle_costs_time_and_no_effect(bench, eventually):
    """Guarantee: the effect of a task whose worker is killed happens later, once."""
    with bench.delivery():
        with bench.worker() as first:
            bench.deliver(sleep=4)
            eventually(lambda: _is_held(bench))
            os.killpg(first.pid, signal.SIGKILL)
            first.wait()
        assert bench.effects() == []
        bench.rows("""
            UPDATE spine.deliveries SET envelope = jsonb_set(envelope, '{data,name}', '"0"')
            RETURNING 1
        """)
        with bench.worker():
            eventually(bench.effects)
            eventually(lambda: not bench.rows("SELECT 1 FROM spine.deliveries"))
    assert bench.effects() == ["wl_1"]


def test_what_kills_every_worker_becomes_a_dead_letter(bench, eventually):
    """Guarantee: a delivery that never ends is given up after its attempts, and says so."""
    delivery = bench.deliver()
    bench.rows(
        "UPDATE spine.deliveries SET starts = 3, rings = 4, rung_at = now() - interval '1 h' "
        "RETURNING 1"
    )
    with bench.delivery():
        dead = eventually(lambda: bench.rows("SELECT id, project, reason FROM spine.dead_letters"))
    assert [(str(row[0]), row[1]) for row in dead] == [(delivery, "a")]
    assert "started 3 times and never ended" in dead[0][2]
    assert bench.rows("SELECT project, subject FROM spine.audit_entries") == [("a", delivery)]


@pytest.mark.parametrize(
    "headers",
    [{"stamped_headers": 5}, {"timelimit": ["a", {}]}, {"eta": "2126-01-01T00:00:00+00:00"}],
)
def test_what_else_a_ringing_asks_of_a_worker_is_not_heard(bench, eventually, headers):
    """Guarantee: a header no ringer of ours writes neither ends a worker nor delays a task."""
    bench.bell._celery.send_task("drift.probe", args=[bench.deliver()], queue="drift")
    key = f"{bench.settings.broker_prefix}drift"
    with redis.Redis.from_url(bench.settings.bus_url) as bus:
        ringing = json.loads(bus.rpop(key))
        ringing["headers"] |= headers
        bus.lpush(key, json.dumps(ringing))
    with bench.worker() as worker:
        eventually(bench.effects)
        assert worker.poll() is None
    assert "Traceback" not in bench.log()


def test_a_wiped_bus_is_rung_again_at_once(bench, eventually):
    """Guarantee: losing all of Redis costs about a poll, not `ring_again_seconds`."""
    bench.settings = bench.settings.model_copy(update={"ring_again_seconds": 300.0})
    with bench.delivery():
        for n in range(5):
            bench.deliver(subject=f"wl_{n}")
        eventually(lambda: len(bench.rows("SELECT 1 FROM spine.deliveries WHERE rings = 1")) == 5)
        with redis.Redis.from_url(bench.settings.bus_url) as bus:
            bus.flushall()
        with bench.worker():
            eventually(lambda: len(bench.effects()) == 5)
    assert sorted(bench.effects()) == [f"wl_{n}" for n in range(5)]


def test_term_ends_both_processes_cleanly(bench, eventually):
    with bench.worker() as worker, bench.delivery() as delivery:
        bench.deliver()
        eventually(bench.effects)
        worker.terminate()
        delivery.terminate()
        assert delivery.wait(timeout=60) == 0
        assert worker.wait(timeout=60) == 0


def _is_held(bench) -> bool:
    """Whether a worker is inside the task: the row is there and locked."""
    there = bench.rows("SELECT 1 FROM spine.deliveries")
    free = bench.rows("SELECT 1 FROM spine.deliveries FOR UPDATE SKIP LOCKED")
    return bool(there) and not free


def test_the_worker_of_all_rooms_starts_with_spawned_children(bench, eventually):
    """fork() would copy locks of libraries in the wrong state."""
    with bench.process("-m", "shared.worker") as worker:
        eventually(lambda: len(_spawned(worker.pid)) == bench.settings.worker_children)
    assert "Traceback" not in bench.log()


def _spawned(pid: int) -> list[str]:
    """Command lines of the pool's children that are interpreters of their own."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    commands = [Path(f"/proc/{child}/cmdline").read_text() for child in children]
    return [command for command in commands if "spawn_main" in command]
