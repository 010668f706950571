"""The queue door on a real Valkey, with senders that know kombu or Celery and nothing of ours."""

from __future__ import annotations

import base64
import hashlib
import random
import time

import pytest
from inference_doors import BASE, KEY, PROJECT, RELEASES, Hang, await_true, refuse
from queue_doors import (
    HOLDINGS,
    PREFIX,
    DoorProcess,
    Post,
    add_project,
    celery_sender,
    list_letters,
    queue_door,
)
from sqlalchemy import text

from services.inference.bootstrap import SYSTEM, make_store
from services.inference.core import Core
from services.inference.door.messages import queue_of
from services.inference.repository import door_answers
from services.inference.settings import InferenceSettings
from services.inference.shipper import Shipper
from services.inference.spool import Spool
from shared.receipts import read_receipt

ASK = {"model": BASE, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def post(bus_url):
    opened = Post(bus_url)
    yield opened
    opened.close()


@pytest.fixture
def door(world, database, bus_url):
    with queue_door(world, database, bus_url) as opened:
        yield opened


@pytest.fixture
def quick_door(world, database, bus_url):
    """A door that records its dead letters three times a second."""
    world.settings = InferenceSettings(door_dead_seconds=1)
    with queue_door(world, database, bus_url) as opened:
        yield opened


def test_kombu_sender_gets_the_answer_with_its_correlation_id(door, post, world):
    world.route()
    reply_to = post.send(ASK | {"model": "shop", "id": "r1"}, correlation_id="c1")
    message = post.receive(reply_to)
    assert message.properties["correlation_id"] == "c1"
    answer = message.payload
    assert answer["id"] == "r1"
    assert answer["response"]["choices"][0]["message"]["content"] == "hello"
    assert answer["headers"]["x-release"] == RELEASES["live"]
    assert read_receipt(answer["headers"]["x-inference-id"], PROJECT, [KEY]).arm == "live"
    (line,) = world.lines
    assert line.record.door == "queue"
    await_true(lambda: post.held() == 0)


@pytest.mark.parametrize("as_keywords", [False, True])
def test_celery_sender_gets_the_result_of_its_task(door, bus_url, as_keywords):
    app = celery_sender(bus_url)
    arguments = {"kwargs": ASK} if as_keywords else {"args": [ASK]}
    task = app.send_task("inference.generate", queue=queue_of(PROJECT), **arguments)
    result = task.get(timeout=15)
    assert result["id"] == task.id
    assert result["response"]["choices"][0]["message"]["content"] == "hello"


def test_celery_sender_with_a_priority_is_served(door, bus_url):
    task = celery_sender(bus_url).send_task(
        "inference.generate", args=[ASK], queue=queue_of(PROJECT), priority=6
    )
    assert "response" in task.get(timeout=15)


def test_same_id_gets_the_stored_answer(door, post, directed):
    first = post.ask(ASK | {"id": "again"})
    second = post.ask(ASK | {"id": "again"})
    assert first == second
    assert len(directed.bodies) == 1


def test_id_of_another_request_is_refused(door, post):
    post.ask(ASK | {"id": "one"})
    answer = post.ask(ASK | {"id": "one", "temperature": 0.5})
    assert answer["error"]["code"] == "id_reused"


def test_chat_is_kept_where_its_sender_asks_for_it(door, post, world):
    answer = post.ask(ASK | {"store": True, "metadata": {"a": "1"}})
    (line,) = world.lines
    assert line.stored is not None
    assert (line.stored.completion, line.stored.metadata) == (answer["response"], {"a": "1"})
    assert line.stored.messages == ASK["messages"]
    refused = post.ask(ASK | {"store": True, "metadata": {"a": "v" * 513}})
    assert refused["error"]["code"] == "invalid_metadata"


def test_failure_is_not_what_an_id_stands_for(door, post, directed):
    directed.script = [refuse(503)] * 3
    assert post.ask(ASK | {"id": "x"})["error"]["code"] == "upstream_unavailable"
    assert "response" in post.ask(ASK | {"id": "x"})


def test_twins_get_one_answer(door, post):
    replies = [post.send(ASK | {"id": "twin"}) for _ in range(4)]
    answers = [post.receive(reply).payload for reply in replies]
    assert all(answer == answers[0] for answer in answers)


def test_answers_are_forgotten_after_their_time(door, post, spine, directed):
    post.ask(ASK | {"id": "old"})
    with spine.open(SYSTEM) as uow:
        assert door_answers.delete_old(uow.session, 1) == 0
        assert door_answers.delete_old(uow.session, 0) == 1
    post.ask(ASK | {"id": "old"})
    assert len(directed.bodies) == 2


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (ASK | {"model": "no-such"}, "model_not_found"),
        (ASK | {"stream": True}, "unsupported_parameter"),
        (ASK | {"tools": [{"a": 1}]}, "invalid_value"),
        (ASK | {"temperature": 9}, "invalid_value"),
        ({"model": BASE}, "invalid_value"),
        ([1, 2], "malformed_message"),
        (ASK | {"id": 7}, "malformed_message"),
    ],
)
def test_request_that_cannot_be_met_is_answered_with_the_reason(door, post, body, code):
    assert post.ask(body)["error"]["code"] == code


def test_unknown_task_is_answered(door, post):
    answer = post.ask([[ASK], {}, {}], headers={"task": "drift.fold", "id": "t"})
    assert answer["result"]["error"]["code"] == "malformed_message"


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"not json", b"{}", b"[]", b"null", b"a\0b"])
def test_what_cannot_be_answered_is_a_dead_letter_and_the_door_goes_on(
    quick_door, database, post, raw
):
    post.put(raw)
    assert "response" in post.ask(ASK)
    await_true(lambda: len(list_letters(database)) == 1)
    (letter,) = list_letters(database)
    assert (letter.project, letter.queue) == (PROJECT, queue_of(PROJECT))
    assert (letter.task, letter.starts) == ("inference.generate", 1)
    shown = letter.data["message"]
    plain = base64.b64decode(shown) if letter.data["encoding"] == "base64" else shown.encode()
    assert (plain, letter.data["is_whole"]) == (raw, True)
    assert post.held() == 0
    await_true(lambda: post.unrecorded() == [])


def test_dead_letter_of_a_huge_message_holds_its_beginning(quick_door, database, post):
    raw = b"x" * 100_000
    post.put(raw)
    await_true(lambda: len(list_letters(database)) == 1)
    data = list_letters(database)[0].data
    assert (data["message"], data["bytes"], data["is_whole"]) == ("x" * 65_536, 100_000, False)
    assert data["sha256"] == hashlib.sha256(raw).hexdigest()


def test_dead_letters_wait_for_postgres_and_are_recorded_once(world, database, bus_url, post):
    """Guarantee: what cannot be answered is kept, Postgres or not."""

    class Away:
        app = spine = "postgresql+psycopg://app@127.0.0.1:1/none"

    world.settings = InferenceSettings(door_dead_seconds=1)
    raws = [b"one", b"two", b"two"]
    with queue_door(world, Away, bus_url):
        for raw in raws:
            post.put(raw)
        await_true(lambda: len(post.unrecorded()) == 3)
        assert "response" in post.ask(ASK)
    assert sorted(post.unrecorded()) == raws
    # As if a door had died between recording and forgetting: one entry is there twice.
    key = f"{PREFIX}inference.door:dead_letters"
    post.redis.lpush(key, post.redis.lindex(key, 0))
    with queue_door(world, database, bus_url):
        await_true(lambda: post.unrecorded() == [])
    letters = list_letters(database)
    assert sorted(letter.data["message"] for letter in letters) == ["one", "two", "two"]


def test_answer_is_not_put_into_the_queue_of_another_project(quick_door, database, post):
    post.publish(ASK, reply_to=queue_of("victim"))
    await_true(lambda: len(list_letters(database)) == 1)
    assert post.waiting("victim") == 0


def test_reply_that_nobody_fetches_goes_away(door, post):
    reply_to = post.send(ASK)
    await_true(lambda: post.redis.exists(f"{PREFIX}{reply_to}") == 1)
    assert 0 < post.redis.ttl(f"{PREFIX}{reply_to}") <= 60


def test_request_without_a_reply_queue_is_done_and_recorded(door, post, world):
    post.publish(ASK)
    world.await_lines(1)
    await_true(lambda: post.held() == 0)


def test_project_that_is_new_is_heard(world, database, bus_url, post):
    projects = {PROJECT}
    with queue_door(world, database, bus_url, projects):
        reply_to = post.send(ASK, project="newcomer")
        projects.add("newcomer")
        assert "response" in post.receive(reply_to).payload


def test_total_deadline_is_the_doors_own(world, database, bus_url, post, directed, fast):
    world.settings = InferenceSettings(
        total_seconds=30, attempt_seconds=20, door_total_seconds=0.5, **fast
    )
    directed.script = [lambda _body: Hang(directed)]
    with queue_door(world, database, bus_url):
        assert post.ask(ASK)["error"]["code"] == "upstream_timeout"
    await_true(lambda: directed.departures == 1)


def test_work_is_bounded_and_the_rest_waits_in_its_queue(
    world, database, bus_url, post, directed, fast
):
    world.settings = InferenceSettings(door_concurrency=2, **fast)
    directed.script = [lambda _body: Hang(directed)] * 2
    with queue_door(world, database, bus_url):
        for _ in range(6):
            post.publish(ASK)
        await_true(lambda: post.waiting() == 3)
        time.sleep(0.3)
        assert len(directed.bodies) == 2
        assert post.waiting() == 3


def test_door_that_stops_puts_back_what_it_did_not_finish(world, database, bus_url, post, directed):
    directed.script = [lambda _body: Hang(directed)]
    with queue_door(world, database, bus_url):
        reply_to = post.send(ASK | {"id": "kept"})
        await_true(lambda: len(directed.bodies) == 1)
    assert post.waiting() == 1
    assert post.held() == 0
    with queue_door(world, database, bus_url):
        assert "response" in post.receive(reply_to).payload


def test_away_database_costs_the_memory_and_not_the_answer(world, bus_url, post, directed):
    class Away:
        app = spine = "postgresql+psycopg://app@127.0.0.1:1/none"

    with queue_door(world, Away, bus_url):
        assert "response" in post.ask(ASK | {"id": "a"})
        assert "response" in post.ask(ASK | {"id": "a"})
    assert len(directed.bodies) == 2


def test_message_that_kills_every_door_is_buried_and_the_one_beside_it_is_not(
    world, database, bus_url, post
):
    deadly, healthy = b'{"body": "deadly"}', b'{"body": "healthy"}'
    queue, suspects = f"{PREFIX}{queue_of('silent')}", f"{PREFIX}inference.door:suspects:silent"
    tried = f"{PREFIX}inference.door:tried"
    world.settings = InferenceSettings(door_dead_seconds=1)
    waiting = []
    for number in range(6):
        door = f"gone{number}"
        post.leave_behind(door, [deadly, healthy], "silent")
        if number >= 2:
            # Of what was put back twice, one message at a time is tried.
            post.redis.hset(tried, mapping={"door": door, "message": deadly})
        with queue_door(world, database, bus_url):
            holding = f"{door}:silent"
            await_true(lambda name=holding: not post.redis.sismember(HOLDINGS, name))
        waiting.append([sorted(post.redis.lrange(key, 0, -1)) for key in (queue, suspects)])
        post.redis.delete(queue, suspects)
    both = [deadly, healthy]
    assert waiting == [[both, []]] * 2 + [[[], both]] * 2 + [[[], [healthy]], [[], [healthy]]]
    with queue_door(world, database, bus_url):
        await_true(lambda: post.unrecorded() == [])
    letters = list_letters(database)
    assert [letter.data["message"] for letter in letters] == [deadly.decode()] * 2
    assert {(letter.project, letter.starts) for letter in letters} == {("silent", 6)}
    assert "doors died while they tried it alone" in letters[0].reason


def test_suspects_are_answered_one_at_a_time(world, database, bus_url, post, directed, fast):
    world.settings = InferenceSettings(door_dead_seconds=1, **fast)
    directed.script = [lambda _body: Hang(directed)]
    replies = [post.send(ASK) for _ in range(3)]
    post.redis.rename(f"{PREFIX}{queue_of(PROJECT)}", f"{PREFIX}inference.door:suspects:{PROJECT}")
    with queue_door(world, database, bus_url):
        await_true(lambda: len(directed.bodies) == 1)
        assert "response" in post.ask(ASK)
        assert len(directed.bodies) == 2
    assert post.waiting() == 1
    with queue_door(world, database, bus_url):
        assert all("response" in post.receive(reply).payload for reply in replies)


def test_list_of_a_door_nobody_heard_of_is_found(world, database, bus_url, post):
    reply_to = post.send(ASK)
    post.redis.rename(
        f"{PREFIX}{queue_of(PROJECT)}", f"{PREFIX}inference.door:taken:mute:{PROJECT}"
    )
    with queue_door(world, database, bus_url):
        assert "response" in post.receive(reply_to).payload


def test_door_that_was_forgotten_makes_itself_heard_again(world, database, bus_url, post):
    world.settings = InferenceSettings(door_dead_seconds=1)
    with queue_door(world, database, bus_url):
        await_true(lambda: post.redis.exists(HOLDINGS) == 1)
        post.redis.flushall()
        await_true(lambda: post.redis.exists(HOLDINGS) == 1)
        assert "response" in post.ask(ASK)


def test_request_that_breaks_the_core_is_answered(door, post, monkeypatch):
    monkeypatch.setattr(Core, "answer", None)
    assert post.ask(ASK)["error"]["code"] == "internal_error"


@pytest.mark.timeout(300)
def test_killed_door_loses_no_request(world, database, bus_url, post, directed, spine):
    """Guarantee: every message in a queue is answered, and recorded, whichever door is killed."""
    add_project(database)
    replies = {}
    survivor = DoorProcess(world, database, bus_url)
    try:
        for round_ in range(5):
            victim = DoorProcess(world, database, bus_url)
            victim.await_ready(post)
            directed.script = [lambda _body: time.sleep(0.01)] * 40
            for number in range(40):
                name = f"{round_}-{number}"
                replies[name] = post.send(ASK | {"id": name})
            time.sleep(random.uniform(0, 0.2))
            victim.kill()
        for name, reply_to in replies.items():
            assert post.receive(reply_to, 40).payload["id"] == name
        await_true(lambda: post.held() == 0)
        assert post.unrecorded() == []
        assert list_letters(database) == []
        assert survivor.stop() == 0
    finally:
        survivor.kill()
    folder = world.folder / "home" / "spool" / "inference"
    heir = Spool(folder, segment_bytes=1 << 20, max_bytes=1 << 20)
    Shipper(heir, make_store(spine), period_seconds=1, rows=500).adopt()
    heir.close()
    assert list(folder.iterdir()) == []
    with spine.open(SYSTEM) as uow:
        recorded = uow.session.execute(text("SELECT count(*) FROM inference.records"))
        assert recorded.scalar_one() >= len(replies)
