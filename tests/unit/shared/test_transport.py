"""Which strings of a queue reach a worker."""

from __future__ import annotations

import base64
import json

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from shared.broker import FURTHER, MOST_RUNG_TOGETHER
from shared.ids import uuid7
from shared.transport import is_ringing, plain


def _rung(*arguments: object, **headers: object) -> dict[str, object]:
    """What Celery itself writes for our bell."""
    app = Celery("t", broker="memory://")
    app.conf.update(task_serializer="json")
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        simple = connection.SimpleQueue("q")
        app.send_task(
            "room.do", args=list(arguments), queue="q", headers=headers, connection=connection
        )
        raw: dict[str, object] = channel._get("q")
        simple.close()
    return json.loads(json.dumps(raw))


def test_the_bell_is_heard():
    assert is_ringing(_rung(str(uuid7())))


@pytest.mark.parametrize("arguments", [(), ("x",), (7,), (str(uuid7()), 1), (["x" * 1000],)])
def test_another_task_message_is_not(arguments):
    assert not is_ringing(_rung(*arguments))


def test_a_bell_of_several_is_heard():
    further = [str(uuid7()) for _ in range(MOST_RUNG_TOGETHER - 1)]
    assert is_ringing(_rung(str(uuid7()), **{FURTHER: further}))


@pytest.mark.parametrize(
    "further",
    [
        None,
        7,
        "x",
        str(uuid7()),
        {str(uuid7()): 1},
        [7],
        ["x"],
        [str(uuid7())] * MOST_RUNG_TOGETHER,
    ],
)
def test_a_bell_of_several_that_names_something_else_is_not(further):
    assert not is_ringing(_rung(str(uuid7()), **{FURTHER: further}))


@pytest.mark.parametrize("missing", ["body", "properties", "headers", "content-type"])
def test_half_a_message_is_not(missing):
    raw = _rung(str(uuid7()))
    del raw[missing]
    assert not is_ringing(raw)


@pytest.mark.parametrize("body", ["!!!", "", None, 7, base64.b64encode(b"[" * 100_000).decode()])
def test_a_body_that_cannot_be_decoded_is_not(body):
    assert not is_ringing(_rung(str(uuid7())) | {"body": body})


def test_of_a_ringing_its_task_and_its_deliveries_are_handed_on_and_nothing_else():
    """Guarantee: who can write to the bus can ring, and can neither delay nor direct a worker."""
    delivery, further = str(uuid7()), [str(uuid7())]
    raw = _rung(delivery)
    raw["headers"] |= {
        "further_deliveries": further,
        "eta": "2126-01-01T00:00:00Z",
        "expires": 7,
        "timelimit": ["a", {}],
        "stamped_headers": 5,
        "compression": "application/x-gzip",
    }
    raw["properties"] |= {"delivery_info": {"exchange": 1}, "priority": "high"}
    body = [[delivery], {"other": 1}, {"callbacks": [{"task": "x"}]}]
    raw["body"] = base64.b64encode(json.dumps(body).encode()).decode()
    made = plain(raw, "room")
    assert is_ringing(made)
    assert made["headers"] == {
        "task": "room.do",
        "id": raw["headers"]["id"],
        "further_deliveries": further,
    }
    assert json.loads(base64.b64decode(made["body"])) == [[delivery], {}, {}]
    assert made["properties"].pop("delivery_tag") != raw["properties"]["delivery_tag"]
    assert made["properties"] == {
        "body_encoding": "base64",
        "delivery_info": {"exchange": "", "routing_key": "room"},
    }


_LEAVES = st.none() | st.integers() | st.text()


@given(st.recursive(_LEAVES, lambda of: st.lists(of) | st.dictionaries(st.text(), of)))
def test_nothing_that_json_can_hold_raises(value):
    assert not is_ringing(value)
