"""Deliveries that share a message, with real worker and delivery processes."""

from __future__ import annotations

import contextlib
import json
import threading

import pytest

from services.delivery.domain import Due
from shared.broker import FURTHER, make_celery

pytestmark = pytest.mark.timeout(300)


def _rung_together(bench, *deliveries: tuple[str, str]) -> None:
    """One message for all of them, as the ringer sends it after marking them."""
    bench.rows("UPDATE spine.deliveries SET rings = 1, rung_at = now() RETURNING 1")
    bench.bell.mark_memory()
    bench.bell.ring([[Due(id_, "drift", "a", task) for id_, task in deliveries]])


def _messages(bench) -> list[list[str]]:
    """What is in the queue: the ids in each message."""
    found = []
    with make_celery(bench.settings).connection_for_read() as connection:
        channel = connection.default_channel
        while (message := channel.basic_get("drift", no_ack=True)) is not None:
            found.append([json.loads(message.body)[0][0], *message.headers.get(FURTHER, [])])
    return found


def test_a_backlog_is_rung_in_messages_of_several_and_done_once(bench, eventually):
    """Guarantee: one effect per delivery, however they are put together."""
    ids = [bench.deliver(project=f"p{n % 3}", subject=f"wl_{n}") for n in range(150)]
    with bench.delivery():
        eventually(lambda: bench.rows("SELECT 1 FROM spine.deliveries WHERE rings = 1"))
        with bench.worker():
            eventually(lambda: not bench.rows("SELECT 1 FROM spine.deliveries"))
    assert sorted(bench.effects()) == sorted(f"wl_{n}" for n in range(150))
    finished = [json.loads(line) for line in bench.log().splitlines() if "task_finished" in line]
    assert sorted(line["delivery_id"] for line in finished) == sorted(ids)
    assert {line["outcome"] for line in finished} == {"done"}


def test_what_kills_its_worker_is_blamed_alone(bench, eventually, tmp_path):
    """Guarantee: neighbours of a killer are done, and only the killer becomes a dead letter."""
    task, never = "drift.swallow_probe", str(tmp_path / "never")
    before = bench.deliver(subject="before")
    killer = bench.deliver(task=task, subject="kills", model=never)
    behind = [bench.deliver(subject=f"behind {n}") for n in range(6)]
    _rung_together(
        bench, (before, "drift.probe"), (killer, task), *((id_, "drift.probe") for id_ in behind)
    )
    with bench.worker(), bench.delivery():
        dead = eventually(lambda: bench.rows("SELECT CAST(id AS text) FROM spine.dead_letters"))
        eventually(lambda: not bench.rows("SELECT 1 FROM spine.deliveries"))
    assert dead == [(killer,)]
    assert bench.rows("SELECT count(*) FROM spine.dead_letters") == [(1,)]
    assert sorted(bench.effects()) == ["before", *(f"behind {n}" for n in range(6))]


def test_a_repeated_delivery_travels_alone(bench, eventually):
    ids = [bench.deliver(subject=f"wl_{n}") for n in range(40)]
    bench.rows(
        "UPDATE spine.deliveries SET rings = 1 WHERE id = CAST(:id AS uuid) RETURNING 1", id=ids[3]
    )
    with bench.delivery():
        eventually(lambda: not bench.rows("SELECT 1 FROM spine.deliveries WHERE rung_at IS NULL"))
    messages = _messages(bench)
    assert [ids[3]] in messages
    assert max(map(len, messages)) > 1
    assert sorted(id_ for message in messages for id_ in message) == sorted(ids)


def test_a_phased_task_lets_the_others_go_to_another_process(bench, eventually):
    """Guarantee: nobody waits in one message behind a task that calls out."""
    slow = bench.deliver(task="drift.phased_probe", subject="slow", sleep=4)
    quick = [bench.deliver(subject=f"quick {n}") for n in range(5)]
    _rung_together(bench, (slow, "drift.phased_probe"), *((id_, "drift.probe") for id_ in quick))
    with bench.worker(), bench.delivery():
        eventually(lambda: len(bench.effects()) == 5)
        assert bench.rows("SELECT CAST(id AS text), starts FROM spine.deliveries") == [(slow, 0)]
        eventually(lambda: len(bench.effects()) == 6)
    assert bench.effects()[-1] == "slow"


def test_a_message_of_the_last_release_is_answered(bench, eventually):
    """Guarantee: a ringer of 0.1.0, which knows no header, rings workers of this release."""
    bench.deliver()
    with bench.worker():
        ((delivery,),) = bench.rows("SELECT CAST(id AS text) FROM spine.deliveries")
        bench.bell._celery.send_task("drift.probe", args=[delivery], queue="drift", retry=False)
        eventually(bench.effects)
    assert bench.effects() == ["wl_1"]


def test_what_a_worker_of_the_last_release_leaves_is_rung_again(bench, eventually):
    """Guarantee: a worker of 0.1.0 reads the argument alone; the others are done later."""
    ids = [bench.deliver(subject=f"wl_{n}") for n in range(4)]
    _rung_together(bench, *((id_, "drift.probe") for id_ in ids))
    with _old_worker(bench) as answered:
        eventually(lambda: answered)
    assert answered == ids[:1]
    with bench.delivery(), bench.worker():
        eventually(lambda: not bench.rows("SELECT 1 FROM spine.deliveries"))
    assert sorted(bench.effects()) == ["wl_1", "wl_2", "wl_3"]


@contextlib.contextmanager
def _old_worker(bench):
    """Takes the row that the argument names, and looks at nothing else of a message."""
    answered: list[str] = []
    stop = threading.Event()

    def serve() -> None:
        with make_celery(bench.settings).connection_for_read() as connection:
            while not stop.wait(0.05):
                message = connection.default_channel.basic_get("drift", no_ack=True)
                if message is not None:
                    (delivery,), _, _ = json.loads(message.body)
                    bench.finish(delivery)
                    answered.append(delivery)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield answered
    finally:
        stop.set()
        thread.join()
