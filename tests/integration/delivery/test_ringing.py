"""What is rung, in which order, how often; the tests listen where workers would."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections import Counter

import pytest
import redis

from services.delivery.adapters.celery_bell import CeleryBell
from services.delivery.bootstrap import make_bell
from services.delivery.service.ringing import bury_exhausted, ring_due
from shared.broker import FURTHER, make_celery
from shared.context import Context
from shared.errors import Unavailable
from shared.ids import Project
from shared.spine import deliveries


def _rung(bench) -> list[str]:
    """Ids that arrived in the queue `drift` since the last call, first rung first."""
    ids = []
    with make_celery(bench.settings).connection_for_read() as connection:
        channel = connection.default_channel
        while (message := channel.basic_get("drift", no_ack=True)) is not None:
            ids += [json.loads(message.body)[0][0], *message.headers.get(FURTHER, [])]
    return ids


def _ring(bench, **settings) -> list[str]:
    ring_due(bench.spine, bench.bell, bench.settings.model_copy(update=settings))
    return _rung(bench)


def test_a_due_row_is_rung_once_and_again_when_nobody_took_it(bench):
    delivery = bench.deliver()
    assert _ring(bench) == [delivery]
    assert _ring(bench) == []
    bench.rows("UPDATE spine.deliveries SET rung_at = rung_at - interval '2 s' RETURNING 1")
    assert _ring(bench) == [delivery]
    assert bench.rows("SELECT rings FROM spine.deliveries") == [(2,)]


def test_a_row_that_is_due_later_is_not_rung(bench):
    bench.deliver()
    bench.rows("UPDATE spine.deliveries SET due_at = now() + interval '1 h' RETURNING 1")
    assert _ring(bench) == []


def test_the_message_of_a_quiet_project_passes_those_of_a_noisy_one(bench):
    noisy = [bench.deliver(project="a") for _ in range(5)]
    ring_due(bench.spine, bench.bell, bench.settings)
    quiet = bench.deliver(project="b")
    ring_due(bench.spine, bench.bell, bench.settings)
    assert bench.bell.look(["drift", "feedback"]).waiting == {"drift": 6, "feedback": 0}
    assert _rung(bench) == [noisy[0], quiet, *noisy[1:]]


def test_of_a_lane_only_the_oldest_unfinished_is_rung(bench):
    first, second, third = (bench.deliver(lane="lane", subject=f"wl_{n}") for n in range(3))
    elsewhere = bench.deliver(project="b", lane="lane")
    assert sorted(_ring(bench)) == sorted([first, elsewhere])
    assert _ring(bench) == []
    bench.finish(first)
    assert _ring(bench) == [second]
    bench.finish(second)
    assert _ring(bench) == [third]


def test_at_most_a_window_is_rung_and_unfinished(bench):
    ids = [bench.deliver() for _ in range(5)]
    assert _ring(bench, ring_window=3) == ids[:3]
    assert _ring(bench, ring_window=3) == []
    bench.finish(ids[1])
    assert _ring(bench, ring_window=3) == [ids[3]]


def test_a_backlog_of_one_project_does_not_hold_up_another(bench):
    backlog = [bench.deliver(project="big") for _ in range(30)]
    assert _ring(bench, ring_window=4) == backlog[:4]
    single = bench.deliver(project="small")
    bench.finish(backlog[0])
    assert _ring(bench, ring_window=4) == [single]
    even = bench.deliver(project="small")
    bench.finish(single)
    bench.finish(backlog[1])
    assert sorted(_ring(bench, ring_window=4)) == sorted([even, backlog[4]])


def test_what_a_worker_holds_is_not_rung(bench):
    bench.deliver()
    with bench.spine.engine.begin() as holder:
        holder.exec_driver_sql("SELECT 1 FROM spine.deliveries FOR UPDATE")
        assert _ring(bench) == []


def test_two_ringers_at_once_ring_each_row_once(bench):
    # However long the rounds take on a busy machine, none of them is a ringing again.
    bench.settings = bench.settings.model_copy(update={"ring_again_seconds": 300.0})
    # A bus without our mark would be taken for a wiped one by both, and all be rung again.
    _ring(bench)
    ids = [bench.deliver(project=f"p{n % 5}") for n in range(60)]

    def ring() -> None:
        bell = make_bell(bench.settings)
        for _ in range(30):
            ring_due(bench.spine, bell, bench.settings)

    ringers = [threading.Thread(target=ring) for _ in range(2)]
    for ringer in ringers:
        ringer.start()
    for ringer in ringers:
        ringer.join()
    assert Counter(_rung(bench)) == Counter(ids)


def test_a_wiped_bus_makes_everything_due_at_once(bench):
    ids = [bench.deliver() for _ in range(3)]
    assert _ring(bench) == ids
    with redis.Redis.from_url(bench.settings.bus_url) as bus:
        bus.flushall()
    assert _ring(bench) == ids
    # The lost ringing does not count as one that nobody survived.
    assert bench.rows("SELECT rings, starts FROM spine.deliveries") == [(1, 0)] * 3


def test_a_bus_that_is_away_leaves_the_rows_due(bench):
    """Guarantee: what could not be rung is rung as soon as the bus is back."""
    delivery = bench.deliver()
    ring_due(bench.spine, bench.bell, bench.settings.model_copy(update={"ring_window": 1}))
    _rung(bench)
    bench.finish(delivery)
    delivery = bench.deliver()
    nowhere = bench.settings.model_copy(update={"bus_url": "redis://127.0.0.1:1/0"})
    with pytest.raises(Unavailable, match="PERPETUNE_BUS_URL"):
        ring_due(bench.spine, make_bell(nowhere), nowhere)
    # The mark is still readable, the publish is not: the bus went away in between.
    with redis.Redis.from_url(bench.settings.bus_url) as bus:
        half = CeleryBell(make_celery(nowhere), bus, bench.settings.broker_prefix)
        with pytest.raises(Unavailable):
            ring_due(bench.spine, half, bench.settings)
    assert bench.rows("SELECT rings, rung_at FROM spine.deliveries") == [(0, None)]
    assert _ring(bench) == [delivery]


class _Spoilt(socketserver.StreamRequestHandler):
    """Answers with a number that is none, as a network does that changes a byte."""

    def handle(self) -> None:
        while self.rfile.readline():
            self.wfile.write(b":x\r\n")


def test_spoilt_answers_of_the_bus_are_a_bus_that_is_away(bench):
    """Guarantee: bytes that are no answer end no process, and no row is taken for rung."""
    bench.deliver()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Spoilt) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"redis://127.0.0.1:{server.server_address[1]}/0"
        spoilt = bench.settings.model_copy(update={"bus_url": url})
        with pytest.raises(Unavailable):
            ring_due(bench.spine, make_bell(spoilt), spoilt)
        server.shutdown()
    assert bench.rows("SELECT rings, rung_at FROM spine.deliveries") == [(0, None)]


def test_a_queue_that_nobody_serves_is_not_rung_again_and_again(bench):
    """Guarantee: however long workers are away, the bus holds one window of ringings."""
    for _ in range(6):
        bench.deliver()
    for _ in range(5):
        ring_due(bench.spine, bench.bell, bench.settings.model_copy(update={"ring_window": 4}))
        bench.rows("UPDATE spine.deliveries SET rung_at = rung_at - interval '2 s' RETURNING 1")
    assert len(_rung(bench)) == 4


@pytest.mark.parametrize("starts", [0, 2])
def test_a_row_is_rung_again_or_buried_only_so_long_after_its_start(bench, starts):
    """Guarantee: what waited long in the bus is neither begun twice nor buried while it runs."""
    delivery = bench.deliver()
    assert _ring(bench) == [delivery]
    bench.rows(
        "UPDATE spine.deliveries SET starts = :starts, rings = :starts, "
        "rung_at = now() - interval '1 h' RETURNING 1",
        starts=starts,
    )
    _begin(bench, delivery)
    assert _ring(bench) == []
    bench.rows("UPDATE spine.deliveries SET rung_at = NULL RETURNING 1")  # the bus was wiped
    assert _ring(bench) == []
    assert bury_exhausted(bench.spine, bench.settings) == 0
    time.sleep(bench.settings.ring_again_seconds)
    assert (_ring(bench) == [delivery]) == (starts == 0)
    assert bury_exhausted(bench.spine, bench.settings) == (starts > 0)


def test_what_a_worker_of_the_last_release_begins_is_rung_again_only_so_long_after(bench):
    delivery = bench.deliver()
    assert _ring(bench) == [delivery]
    bench.rows("UPDATE spine.deliveries SET rung_at = now() - interval '1 h' RETURNING 1")
    bench.rows("SELECT spine.begin(CAST(:id AS uuid))", id=delivery)
    assert _ring(bench) == []
    time.sleep(bench.settings.ring_again_seconds)
    assert _ring(bench) == [delivery]


def _begin(bench, delivery: str) -> None:
    """What a worker does before a body that calls out."""
    with bench.app.open(Context.root(Project(""), "test")) as uow:
        again = bench.settings.ring_again_seconds
        claim = deliveries.claim(uow.session, delivery, ["drift.probe"], again)
    assert claim is not None
    assert not claim.is_taken


def test_an_exhausted_row_that_cannot_be_read_is_buried_and_stops_nobody(bench):
    delivery = bench.deliver()
    bench.rows("UPDATE spine.deliveries SET starts = 3, envelope = '[]' RETURNING 1")
    assert bury_exhausted(bench.spine, bench.settings) == 1
    assert bench.rows("SELECT CAST(id AS text) FROM spine.dead_letters") == [(delivery,)]
    assert bench.rows("SELECT project, subject FROM spine.audit_entries") == [("a", delivery)]


def test_a_queue_that_does_not_exist_is_never_published_to(bench):
    bench.deliver(task="nowhere.probe")
    assert _ring(bench) == []
    assert bench.rows("SELECT rings FROM spine.deliveries") == [(0,)]
