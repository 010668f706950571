"""Messages of the queue door."""

from __future__ import annotations

import base64
import json

import pytest

from services.inference.door.messages import (
    Malformed,
    Sender,
    may_reply_to,
    read_request,
    write_reply,
)

ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def _envelope(body, headers=None, **properties) -> bytes:
    return json.dumps(
        {
            "body": base64.b64encode(json.dumps(body).encode()).decode(),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": headers or {},
            "properties": {"body_encoding": "base64", "reply_to": "answers"} | properties,
        }
    ).encode()


TASK = {"task": "inference.generate", "id": "t1"}


def _read(raw: bytes, limit: int = 1 << 20):
    return read_request(raw, "acme", max_body_bytes=limit)


@pytest.mark.parametrize(
    ("body", "headers"),
    [(ASK, None), ([[ASK], {}, {}], TASK), ([[], ASK, {}], TASK)],
)
def test_request_is_one_dict_however_it_is_sent(body, headers):
    request = _read(_envelope(body, headers))
    assert request.body == ASK
    assert request.id == ("t1" if headers else None)


def test_given_id_is_no_part_of_the_question():
    first, second = (_read(_envelope(ASK | {"id": name})) for name in ("a", "b"))
    assert (first.id, second.id) == ("a", "b")
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint != _read(_envelope(ASK | {"n": 2})).fingerprint


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff",
        b"not json",
        b"[]",
        b"{}",
        b"[" * 100_000,
        _envelope("text"),
        _envelope([1, 2]),
        _envelope([[ASK, ASK], {}, {}], TASK),
        _envelope([[3], {}, {}], TASK),
        _envelope([], TASK),
        _envelope(ASK, {"task": "drift.fold", "id": "x"}),
        _envelope(ASK | {"id": 3}),
        _envelope(ASK | {"id": "x" * 201}),
        _envelope(ASK | {"id": "a\0b"}),
        _envelope(ASK, reply_to="inference.door.other"),
        _envelope(ASK, reply_to={"a": 1}),
        _envelope(ASK, body_encoding=None),
        json.dumps({"body": "###", "content-type": "application/json", "properties": {}}).encode(),
        json.dumps({"body": "x", "content-type": "application/x-python-serialize"}).encode(),
    ],
)
def test_what_is_no_request_is_malformed(raw):
    with pytest.raises(Malformed):
        _read(raw)


def test_long_message_is_malformed_and_can_be_answered():
    with pytest.raises(Malformed) as raised:
        _read(_envelope(ASK, correlation_id="c"), limit=10)
    assert raised.value.sender == Sender("answers", "c", None)


@pytest.mark.parametrize(
    ("name", "may"),
    [
        ("answers", True),
        ("0f8d3e0a-1111-3333-8888-000000000000", True),
        ("inference.door.acme.answers", True),
        ("inference.door.acme", False),
        ("inference.door.other", False),
        ("inference.door.acme2.answers", False),
        ("inference.door:taken", False),
        ("workloads", False),
        ("dead", False),
        ("unacked", False),
        ("unacked_index", False),
        ("_kombu.binding.x", False),
        ("a\x06\x163", False),
        ("", False),
        (None, False),
    ],
)
def test_answers_go_to_queues_of_senders_only(name, may):
    assert may_reply_to(name, "acme") is may


def test_reply_carries_the_answer_and_for_celery_the_result():
    answer = {"response": {"a": 1}, "headers": {}}
    plain = json.loads(write_reply("r", answer, Sender("answers", "c", None)))
    assert plain["properties"]["correlation_id"] == "c"
    assert json.loads(base64.b64decode(plain["body"])) == {"id": "r", **answer}
    task = json.loads(write_reply("r", answer, Sender("answers", None, "t")))
    body = json.loads(base64.b64decode(task["body"]))
    assert (body["task_id"], body["status"]) == ("t", "SUCCESS")
    assert body["result"] == {"id": "r", **answer}
    assert task["properties"]["correlation_id"] == "t"
