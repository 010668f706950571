"""The simulated users against a real HTTP server."""

from __future__ import annotations

import time

import pytest

from services.cli.connection import Connection
from services.cli.demo.listings import Listings, World
from services.cli.demo.material import Supply
from services.cli.demo.traffic import AT_ONCE, MOST_REQUESTS, Traffic, share_right
from services.cli.errors import CommandFailed
from services.cli.waiting import POLL_SECONDS

ASKED = "/v1/chat/completions"


def answer_of(text):
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


@pytest.fixture
def case():
    return Listings(1).one(World.FAMILIAR)


@pytest.fixture
def traffic(stub, case):
    receipt = {"x-inference-id": "inf_1", "x-model": "ft:a", "x-release": "rel_1"}
    stub.will_answer("POST", ASKED, answer_of(case.answer), headers=receipt)
    stub.will_answer("POST", "/api/v1/feedback", {"id": "fb_1"})
    connection = Connection(stub.url, "ppt_stub_0")
    return Traffic(connection, "w", Supply(None, [case]), seed=1, max_tokens=40)


def bodies(stub, path):
    return [body for _, asked, body, _ in stub.asked if asked == path]


def test_every_answer_is_judged_and_told(stub, traffic):
    answers = traffic.drive(World.FAMILIAR, most=9, hear=traffic.tell)
    assert len(answers) == 9
    assert share_right(answers) == 1.0
    assert {(one.inference_id, one.model, one.release) for one in answers} == {
        ("inf_1", "ft:a", "rel_1")
    }
    assert bodies(stub, "/api/v1/feedback") == [{"inference_id": "inf_1", "success": True}] * 9


def test_every_user_has_a_turn_before_somebody_has_a_second(stub, traffic):
    traffic.drive(World.FAMILIAR, most=200, hear=lambda _: None)
    asked = bodies(stub, ASKED)
    assert {body["user"] for body in asked} == {f"u-{number:03d}" for number in range(200)}
    assert {(body["model"], body["temperature"], body["max_tokens"]) for body in asked} == {
        ("w", 0, 40)
    }


def test_wrong_answer_is_corrected_with_the_right_one(stub, traffic, case):
    receipt = {"x-inference-id": "inf_2", "x-model": "base", "x-release": "rel_1"}
    stub.will_answer("POST", ASKED, answer_of("no idea"), headers=receipt)
    traffic.drive(World.FAMILIAR, most=1, hear=traffic.correct)
    assert bodies(stub, "/api/v1/feedback") == [
        {"inference_id": "inf_2", "success": False, "correction": case.answer}
    ]


def test_sending_stops_with_the_decision_and_what_is_under_way_is_finished(stub, traffic):
    heard = []

    def hear(answer):
        heard.append(answer)
        # Time for the question, which is asked that often.
        time.sleep(POLL_SECONDS)

    answers = traffic.drive(World.FAMILIAR, most=100, until=lambda: len(heard) >= 10, hear=hear)
    assert len(answers) == len(heard) == len(bodies(stub, ASKED))
    assert 10 <= len(heard) < 10 + 2 * AT_ONCE


def test_decision_that_is_there_already_costs_no_request(stub, traffic):
    assert traffic.drive(World.FAMILIAR, most=5, until=lambda: True, hear=traffic.tell) == []
    assert stub.asked == []


def test_budget_of_requests_holds_over_all_calls(stub, traffic):
    traffic.drive(World.FAMILIAR, most=MOST_REQUESTS - AT_ONCE, hear=lambda _: None)
    assert len(traffic.drive(World.FAMILIAR, most=90, hear=lambda _: None)) == AT_ONCE
    with pytest.raises(CommandFailed, match="250 requests are spent"):
        traffic.drive(World.FAMILIAR, most=1, hear=lambda _: None)
    assert len(bodies(stub, ASKED)) == MOST_REQUESTS
