"""In which order a worker of several queues fetches what waits in the bus."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import Celery
from kombu import Connection

from shared.broker import PRIORITIES, make_celery
from shared.ids import uuid7
from shared.settings import CoreSettings

QUEUES = ("drift", "evaluation", "feedback")
FIRST, LAST = PRIORITIES[0], PRIORITIES[-1]


@pytest.fixture
def app(bus_url) -> Iterator[Celery]:
    with make_celery(CoreSettings(bus_url=bus_url)) as app:
        yield app


def _ring(app: Celery, queue: str, priority: int, count: int = 1) -> None:
    for _ in range(count):
        app.send_task(f"{queue}.{priority}", args=[str(uuid7())], queue=queue, priority=priority)


def _fetched(connection: Connection, queues: tuple[str, ...], count: int) -> list[str]:
    """Names of the tasks that one worker's channel fetches, each when the one before is done."""
    fetched: list[str] = []
    channel = connection.channel()
    channel.basic_qos(0, 1, False)

    def take(message) -> None:
        fetched.append(message.headers["task"])
        message.ack()

    for queue in queues:
        channel.basic_consume(queue, False, take, queue)
    for _ in range(count):
        connection.drain_events(timeout=5)
    return fetched


def test_a_queue_full_of_first_turns_holds_up_no_other_queue(app):
    """Guarantee: queues are served in turn; a message's rank counts among those of its queue."""
    for busy in QUEUES[1:]:
        _ring(app, busy, FIRST, count=20)
    _ring(app, QUEUES[0], LAST)
    with app.connection_for_read() as connection:
        fetched = _fetched(connection, QUEUES, len(QUEUES) + 1)
    assert f"{QUEUES[0]}.{LAST}" in fetched


def test_within_a_queue_the_ranks_are_fetched_in_order(app):
    for priority in reversed(PRIORITIES):
        _ring(app, "drift", priority, count=2)
    with app.connection_for_read() as connection:
        fetched = _fetched(connection, QUEUES, 2 * len(PRIORITIES))
    assert fetched == [f"drift.{priority}" for priority in PRIORITIES for _ in range(2)]


def test_full_queues_take_turns(app):
    for queue in QUEUES:
        _ring(app, queue, FIRST, count=3)
        _ring(app, queue, LAST, count=3)
    with app.connection_for_read() as connection:
        fetched = _fetched(connection, QUEUES, 6 * len(QUEUES))
    for start in range(0, len(fetched), len(QUEUES)):
        round_ = fetched[start : start + len(QUEUES)]
        assert {name.split(".")[0] for name in round_} == set(QUEUES)
