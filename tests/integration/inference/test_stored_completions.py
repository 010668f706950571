"""Chats kept by `store=True`: the unmodified client, the door, the spool, and real Postgres."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx2
import openai
import pytest
from inference_doors import BASE, Door, World, broken, http_door
from records_to_store import make_record
from sqlalchemy import text
from starlette.responses import JSONResponse

from services.inference.bootstrap import SYSTEM, make_store
from services.inference.domain.stored import write_id
from services.inference.records import StoredCompletion
from services.inference.shipper import Shipper
from services.inference.spool import Spool
from services.inference.stored import forget_old
from shared.db import Units, make_engine
from shared.ids import new_id, uuid7
from shared.settings import CoreSettings

HI = [{"role": "user", "content": "hi"}]
PATH = "/v1/chat/completions"
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}


@pytest.fixture
def shipper(world: World, spine: Units) -> Iterator[Shipper]:
    shipper = Shipper(world.spool, make_store(spine), period_seconds=0.25, rows=100)
    shipper.start()
    yield shipper
    shipper.stop()


@pytest.fixture
def door(world: World, database, shipper: Shipper) -> Iterator[Door]:
    with http_door(world, Units(make_engine(database.app, CoreSettings()))) as opened:
        yield opened


def ask(client: openai.OpenAI, **fields):
    given = {"model": BASE, "messages": HI, "store": True, **fields}
    return client.chat.completions.create(**given)


def streamed(client: openai.OpenAI, **fields):
    with ask(client, stream=True, **fields) as stream:
        return list(stream)


def stored_count(spine: Units) -> int:
    with spine.open(SYSTEM) as uow:
        count = text("SELECT count(*) FROM inference.stored_completions")
        return uow.session.execute(count).scalar_one()


def test_answer_is_found_as_soon_as_it_was_given(door):
    client = door.client()
    answer = ask(client, metadata={"team": "a"})
    found = client.chat.completions.retrieve(answer.id)
    assert found.metadata == {"team": "a"}
    assert found.choices == answer.choices
    assert (found.id, found.created, found.model, found.usage) == (
        answer.id,
        answer.created,
        answer.model,
        answer.usage,
    )


def test_stream_is_stored_as_the_answer_it_adds_up_to(door):
    client = door.client()
    chunks = streamed(client, n=2)
    found = client.chat.completions.retrieve(chunks[0].id)
    assert [choice.message.content for choice in found.choices] == ["hello", "hello"]
    assert [choice.finish_reason for choice in found.choices] == ["stop", "stop"]
    assert found.created == chunks[0].created
    assert found.usage is not None
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (5, 4)
    assert found.metadata is None


def test_streamed_calls_are_stored_under_the_ids_that_were_told(door, directed):
    said = '<tool_call>\n{"name": "look_up", "arguments": {}}\n</tool_call>'
    end = {"content": said, "stop": True, "stop_type": "eos"}
    end |= {"tokens_evaluated": 5, "tokens_predicted": 2, "timings": {"cache_n": 0}}
    directed.script = [lambda _body: JSONResponse(end)]
    client = door.client()
    answer = ask(client, tools=[TOOL])
    found = client.chat.completions.retrieve(answer.id)
    assert answer.choices[0].message.tool_calls
    assert found.choices == answer.choices


def test_only_what_was_asked_for_and_answered_is_kept(door, directed, shipper, spine):
    door.world.route(capture_content=True)
    client = door.client()
    ask(client, model="shop", store=False)
    client.chat.completions.create(model="shop", messages=HI, metadata={"a": "b"})
    directed.script = [broken]
    with pytest.raises(openai.APIError):
        streamed(client)
    door.world.await_lines(3)
    shipper.ship()
    assert stored_count(spine) == 0


def test_lists_are_paged_oldest_first_and_searched(door, shipper):
    door.world.route()
    client = door.client()
    ids = [ask(client, metadata={"turn": str(turn % 2), "all": "x"}).id for turn in range(4)]
    ids.append(ask(client, model="shop").id)
    shipper.ship()
    completions = client.chat.completions

    def listed(**fields) -> list[str]:
        return [each.id for each in completions.list(**fields)]

    assert listed(limit=2) == ids
    assert listed(limit=2, order="desc") == ids[::-1]
    assert [each.id for each in completions.list(after=ids[1], limit=2).data] == ids[2:4]
    assert listed(metadata={"turn": "1", "all": "x"}) == [ids[1], ids[3]]
    assert listed(metadata={"turn": "7"}) == []
    assert listed(extra_query={"metadata": "null"}) == [ids[4]]
    assert listed(model="shop") == [ids[4]]
    assert listed(model=BASE) == ids
    with pytest.raises(openai.BadRequestError) as refused:
        listed(after="chatcmpl-nothing")
    assert refused.value.param == "after"


def test_messages_are_those_of_the_request(door):
    # OpenAI's own client is typed for answers here, so the strict one refuses a user's message.
    client = door.client(_strict_response_validation=False)
    parts = [{"type": "text", "text": "what"}, {"type": "text", "text": "colour?"}]
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}]
    answer = ask(client, messages=asked)
    messages = client.chat.completions.messages
    listed = list(messages.list(answer.id, limit=1))
    assert [(each.role, each.content) for each in listed] == [
        ("system", "Be brief."),
        ("user", None),
    ]
    assert [part.text for part in listed[1].content_parts] == ["what", "colour?"]
    assert len({each.id for each in listed}) == 2
    assert [each.id for each in messages.list(answer.id, order="desc")] == [
        each.id for each in reversed(listed)
    ]


def test_metadata_is_replaced_and_taken_away(door):
    completions = door.client().chat.completions
    answer = ask(door.client(), metadata={"a": "1"})
    assert completions.update(answer.id, metadata={"b": "2"}).metadata == {"b": "2"}
    assert completions.retrieve(answer.id).metadata == {"b": "2"}
    assert completions.update(answer.id, metadata=None).metadata is None
    with pytest.raises(openai.BadRequestError) as refused:
        completions.update(answer.id, metadata={"k" * 65: ""})
    assert refused.value.code == "invalid_metadata"


def test_deleted_chat_does_not_come_again(door, spine):
    """Guarantee: lines sent again by another process neither revive nor reset a chat."""
    completions = door.client().chat.completions
    gone, kept = (ask(door.client(), metadata={"a": "1"}).id for _ in range(2))
    assert completions.delete(gone).deleted
    completions.update(kept, metadata={"a": "2"})
    Shipper(door.world.spool, make_store(spine), period_seconds=1, rows=100).ship()
    with pytest.raises(openai.NotFoundError):
        completions.retrieve(gone)
    with pytest.raises(openai.NotFoundError):
        completions.delete(gone)
    assert [each.id for each in completions.list()] == [kept]
    assert completions.retrieve(kept).metadata == {"a": "2"}
    with spine.open(SYSTEM) as uow:
        words = "SELECT num_nonnulls(messages, completion, metadata) FROM {} WHERE request = :id"
        rows = uow.session.execute(
            text(words.format("inference.stored_completions")),
            {"id": gone.removeprefix("chatcmpl-")},
        )
        assert rows.scalar_one() == 0
        audited = uow.session.execute(text("SELECT action, subject FROM spine.audit_entries"))
        assert audited.all() == [("completion.deleted", gone)]


def test_other_projects_see_nothing_of_it(door):
    answer = ask(door.client(), metadata={"a": "1"})
    door.client().chat.completions.retrieve(answer.id)
    theirs = door.client(api_key=door.stranger_key).chat.completions
    assert theirs.list().data == []
    for act in (
        theirs.retrieve,
        theirs.delete,
        theirs.messages.list,
        lambda id_: theirs.update(id_, metadata={}),
    ):
        with pytest.raises(openai.NotFoundError) as refused:
            act(answer.id)
        assert refused.value.code == "completion_not_found"
    assert door.client().chat.completions.retrieve(answer.id).metadata == {"a": "1"}


def test_unknown_chats_are_told_at_once_but_for_those_that_may_still_arrive(door):
    completions = door.client().chat.completions
    old = write_id(uuid7(milliseconds=int(time.time() * 1000) - 400_000))
    for unknown, least, most in ((old, 0, 1), ("chatcmpl-x", 0, 1), (write_id(uuid7()), 1.4, 5)):
        began = time.monotonic()
        with pytest.raises(openai.NotFoundError):
            completions.retrieve(unknown)
        assert least <= time.monotonic() - began < most


@pytest.mark.parametrize(
    ("metadata", "param"),
    [
        ({"a": 1}, "metadata.a"),
        ({"a": "v" * 513}, "metadata.a"),
        ({str(n): "" for n in range(17)}, "metadata"),
        ({"a": "b\0"}, "metadata.a"),
    ],
)
def test_metadata_out_of_bounds_is_refused_before_anybody_is_asked(door, directed, metadata, param):
    answer = door.post(PATH, {"model": BASE, "messages": HI, "store": True, "metadata": metadata})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert directed.bodies == []


@pytest.mark.parametrize("model", [BASE, "shop"])
def test_words_come_back_as_they_were(door, model):
    """Also a character that the captured contents of a workload cannot hold."""
    door.world.route(capture_content=True)
    client = door.client(_strict_response_validation=False)
    odd = "a\0b 🙂"
    answer = ask(client, model=model, messages=[{"role": "user", "content": odd}])
    assert [each.content for each in client.chat.completions.messages.list(answer.id)] == [odd]


@pytest.mark.parametrize("odd", ['"\\ud800"', "NaN"])
def test_what_is_no_text_is_answered_and_not_stored(door, directed, odd):
    body = f'{{"model": "{BASE}", "messages": [{{"role": "user", "content": "a", "name": {odd}}}]'
    headers = {"authorization": f"Bearer {door.key}", "content-type": "application/json"}
    answers = [
        httpx2.post(f"{door.url}{PATH}", content=sent, headers=headers, trust_env=False)
        for sent in (body + "}", body + ', "store": true}')
    ]
    assert [answer.status_code for answer in answers] == [200, 400]
    assert answers[1].json()["error"]["param"] == "messages"


def test_old_chats_are_forgotten_whoever_they_belong_to(tmp_path, spine):
    spool = Spool(tmp_path / "spool", segment_bytes=1 << 20, max_bytes=1 << 20)
    day = 86_400_000
    for age, project in ((31, "acme"), (31, "other"), (29, "acme")):
        request = uuid7(milliseconds=int(time.time() * 1000) - age * day)
        stored = StoredCompletion("m", [], {"id": write_id(request)}, None)
        spool.append(make_record(project=project, request=request.hex), None, stored)
    Shipper(spool, make_store(spine), period_seconds=1, rows=10).ship()
    assert stored_count(spine) == 3
    assert forget_old(spine, SYSTEM, 30) == 2
    assert forget_old(spine, SYSTEM, 30) == 0
    assert stored_count(spine) == 1


def test_refused_words_do_not_take_the_record_with_them(tmp_path, spine):
    spool = Spool(tmp_path / "spool", segment_bytes=1 << 20, max_bytes=1 << 20)
    not_json = StoredCompletion("m", [{"role": "user", "content": float("nan")}], {}, None)
    spool.append(make_record(workload_id=new_id("wl")), None, not_json)
    Shipper(spool, make_store(spine), period_seconds=1, rows=10).ship()
    assert (stored_count(spine), spool.poisoned) == (0, 1)
    with spine.open(SYSTEM) as uow:
        records = text("SELECT count(*) FROM inference.records")
        assert uow.session.execute(records).scalar_one() == 1
