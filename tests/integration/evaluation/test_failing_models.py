"""What evaluation makes of a model that fails in the middle of its questions."""

from __future__ import annotations

import time

import pytest

from services.evaluation.adapters.model_server import ModelServer, Question, Weights
from shared.errors import Unavailable
from shared.serving_client import ServingClient
from shared.testing import upstream as acts
from shared.testing.upstream import Upstream

MODEL = Weights("m", "smollm2-135m-instruct")


@pytest.fixture
def upstream():
    with Upstream() as started:
        yield started


@pytest.fixture
def server(upstream):
    with ServingClient(upstream.url) as client:
        yield ModelServer(client)


def _questions(server, count):
    url = server.load(MODEL, seconds=5)
    return [Question(url, [1, number], 5) for number in range(count)]


def test_what_was_answered_is_kept_and_the_sick_model_is_left_alone(server, upstream):
    """Guarantee (I7): no answer is thrown away, so none is asked for twice."""
    questions = _questions(server, 20)
    upstream.once(*[acts.answer] * 5, acts.refuse(503), acts.refuse(503))
    replies = server.answer(questions, at_once=2, seconds=10)
    answered = [reply is not None for reply in replies]
    assert 5 <= sum(answered) <= 6
    assert len(upstream.calls("complete")) <= 8
    upstream.behave()
    rest = [question for question, done in zip(questions, answered, strict=True) if not done]
    assert all(server.answer(rest, at_once=2, seconds=10))
    assert set(upstream.generated.values()) == {1}


@pytest.mark.parametrize(
    "act",
    [
        acts.refuse(429, retry_after=7),
        acts.refuse(503, retry_after=7),
        acts.not_found,
        acts.lose_answer,
        acts.send_raw(b"{garbage"),
        acts.send_raw(b'{"content": 7, "stop": true, "stop_type": "eos", "tokens_predicted": 1}'),
        acts.send_raw(b'{"content": "a", "stop": false, "tokens_predicted": 1}'),
    ],
)
def test_no_answer_at_all_is_unavailable_and_says_when_to_come_back(server, upstream, act):
    questions = _questions(server, 4)
    upstream.always(act)
    with pytest.raises(Unavailable) as raised:
        server.answer(questions, at_once=2, seconds=5)
    assert len(upstream.calls("complete")) <= 2
    asked_for = [call for call in upstream.calls() if call.operation == "complete"]
    assert asked_for
    if raised.value.retry_after is not None:
        assert raised.value.retry_after == 7


@pytest.mark.parametrize("act", [acts.hang, acts.half_a_body, acts.drip(20)])
def test_questions_end_with_their_time(server, upstream, act):
    """Guarantee (F-16): an answer that hangs or drips ends with the step, and keeps no thread."""
    questions = _questions(server, 4)
    upstream.always(act)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="overloaded"):
        server.answer(questions, at_once=2, seconds=1)
    assert time.monotonic() - began < 3
