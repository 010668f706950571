"""Events in a queue of somebody else's kombu program."""

from __future__ import annotations

import contextlib

import pytest
import redis
from kombu import Connection

from services.delivery.domain import full_queue_name, key_prefix
from services.delivery.service import subscriptions
from services.delivery.service.pushing import push_news
from services.delivery.settings import DeliverySettings
from shared.context import Context
from shared.contracts.envelope import Envelope
from shared.contracts.workloads import CycleOpened, WorkloadCreated
from shared.errors import Unavailable
from shared.ids import Project

A, B = (Context.root(Project(name), "test") for name in "ab")
SETTINGS = DeliverySettings(subscriber_queue_events=3, subscriber_full_seconds=0.1)


def _subscribe(bench, context=A, queue="mine", types=()) -> None:
    with bench.app.open(context) as uow:
        subscriptions.create_subscription(uow, queue=queue, types=list(types), most=50)


def _emit(bench, context, *names) -> None:
    for name in names:
        with bench.app.open(context) as uow:
            uow.emit(WorkloadCreated(workload_id=name, name=name, base_model="m"))


def _consume(bench, project="a", queue="mine") -> list[Envelope]:
    """What a stranger reads who knows the address, the prefix and the queue."""
    options = {"global_keyprefix": key_prefix(bench.settings.broker_prefix, project)}
    found = []
    with Connection(bench.settings.bus_url, transport_options=options) as connection:
        simple = connection.SimpleQueue(full_queue_name(project, queue))
        with contextlib.suppress(simple.Empty):
            while message := simple.get(timeout=0.5):
                found.append(Envelope.model_validate(message.payload))
                message.ack()
        simple.close()
    return found


def _push(bench) -> int:
    return push_news(bench.spine, bench.queues, SETTINGS)


def test_a_subscriber_gets_the_events_of_its_project_from_then_on_in_order(bench):
    _emit(bench, A, "wl_before")
    _subscribe(bench)
    _emit(bench, A, "wl_1", "wl_2")
    _emit(bench, B, "wl_other")
    assert _push(bench) == 2
    received = _consume(bench)
    assert [event.subject for event in received] == ["wl_1", "wl_2"]
    assert [event.specversion for event in received] == ["1.0", "1.0"]
    stored = bench.rows("SELECT id FROM spine.events WHERE project = 'a' ORDER BY seq")
    assert [event.id for event in received] == [row[0] for row in stored[1:]]
    assert _push(bench) == 0
    assert _consume(bench) == []


def test_a_full_queue_is_bounded_and_the_rest_comes_when_there_is_room(bench, eventually):
    _subscribe(bench)
    _emit(bench, A, *(f"wl_{n}" for n in range(8)))
    assert _push(bench) == 3
    eventually(lambda: _push(bench) == 0)
    received = [event.subject for event in _consume(bench)]
    assert len(received) == 3
    while len(received) < 8:
        eventually(lambda: _push(bench) > 0)
        received += [event.subject for event in _consume(bench)]
    assert received == [f"wl_{n}" for n in range(8)]


def test_a_full_queue_of_one_subscriber_does_not_hold_up_another(bench):
    _subscribe(bench, queue="slow")
    _emit(bench, A, *(f"wl_{n}" for n in range(5)))
    _push(bench)
    _subscribe(bench, B, queue="quick")
    _emit(bench, B, "wl_b")
    _push(bench)
    assert [event.subject for event in _consume(bench, "b", "quick")] == ["wl_b"]


def test_a_queue_that_takes_nothing_holds_up_no_other_and_not_itself(bench, eventually):
    """Guarantee: what is wrong with one subscriber's queue delays that subscriber alone."""
    prefix = key_prefix(bench.settings.broker_prefix, "a")
    for queue in ("broken", "mine", "spoilt"):
        _subscribe(bench, queue=queue)
    with redis.Redis.from_url(bench.settings.bus_url) as bus:
        keys = [f"{prefix}{full_queue_name('a', queue)}" for queue in ("broken", "spoilt")]
        for key in keys:
            bus.set(key, "no list")
        _emit(bench, A, "wl_1")
        with pytest.raises(Unavailable):
            _push(bench)
        assert [event.subject for event in _consume(bench)] == ["wl_1"]
        bus.delete(*keys)
    eventually(lambda: _push(bench) == 2, seconds=SETTINGS.subscriber_hold_seconds / 2)
    for queue in ("broken", "spoilt"):
        assert [event.subject for event in _consume(bench, queue=queue)] == ["wl_1"]


def test_only_the_types_asked_for_arrive(bench):
    _subscribe(bench, types=["cycle.opened.v1"])
    _emit(bench, A, "wl_1")
    with bench.app.open(A) as uow:
        uow.emit(CycleOpened(cycle_id="cyc_1", workload_id="wl_1", trigger="request"))
    _emit(bench, A, "wl_2")
    _push(bench)
    assert [event.type for event in _consume(bench)] == ["cycle.opened.v1"]
    assert _push(bench) == 0


def test_a_pusher_that_died_repeats_under_the_same_ids(bench, eventually):
    """Guarantee: at least once; what is repeated can be told by its id."""
    _subscribe(bench)
    _emit(bench, A, "wl_1")
    before = bench.rows("SELECT cursor_xid::text, cursor_seq FROM delivery.subscriptions")
    _push(bench)
    bench.rows(
        "UPDATE delivery.subscriptions SET cursor_xid = CAST(:xid AS xid8), cursor_seq = :seq "
        "RETURNING 1",
        xid=before[0][0],
        seq=before[0][1],
    )
    eventually(lambda: _push(bench) == 1)
    first, again = _consume(bench)
    assert first.id == again.id
