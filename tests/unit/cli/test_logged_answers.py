"""Logged answers in the shapes people have them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.cli.errors import CommandFailed
from services.cli.imports.chats import write_rows
from services.cli.imports.logged import read_batch_input, read_logged

RECORDED = Path(__file__).parent / "recorded"
COMPLETION = json.loads((RECORDED / "chat_completion.json").read_text())
CALL = json.loads((RECORDED / "chat_tool_call.json").read_text())
MODEL = COMPLETION["model"]
ASKED = [{"role": "user", "content": "Austin?"}]
TEXT = '{"city":"Austin"}'
ANSWER = {"role": "assistant", "content": TEXT}


def logged(*rows, requests=None):
    return read_logged(write_rows(rows), "logged.jsonl", requests or {})


SHAPES = {
    "recorded": {
        "messages": [*ASKED, ANSWER],
        "recorded": {"model": MODEL, "answer": TEXT, "input_tokens": 19, "output_tokens": 10},
    },
    "request and response": {"request": {"messages": ASKED}, "response": COMPLETION},
    "stored completion": {**COMPLETION, "messages": ASKED},
}


@pytest.mark.parametrize("row", SHAPES.values(), ids=SHAPES)
def test_each_shape_says_who_answered_what_to_what(row):
    (found,) = logged(row)
    assert list(found.case.messages) == ASKED
    assert (found.golden.answer, found.model) == (TEXT, MODEL)
    assert (found.golden.input_tokens, found.golden.output_tokens) == (19, 10)


def test_chat_that_ends_with_the_answer_is_one_too():
    (found,) = logged({"messages": [*ASKED, ANSWER], "model": "ft:a", "latency_ms": 12.5})
    assert found.case.answer is None  # it is what was said, not what is right
    assert (found.golden.answer, found.golden.latency_ms) == (TEXT, 12.5)
    assert found.model == "ft:a"


def test_recorded_row_keeps_its_right_answer():
    right = {"role": "assistant", "content": "Austin, Texas"}
    (found,) = logged(SHAPES["recorded"] | {"messages": [*ASKED, right]})
    assert found.case.answer == right


def test_output_of_a_batch_is_joined_with_its_input():
    request = {"custom_id": "r1", "method": "POST", "body": {"model": MODEL, "messages": ASKED}}
    requests = read_batch_input(write_rows([request]), "input.jsonl")
    good = {"custom_id": "r1", "response": {"status_code": 200, "body": COMPLETION}, "error": None}
    failed = {"custom_id": "r1", "response": {"status_code": 500, "body": {}}, "error": None}
    expired = {"custom_id": "r1", "response": None, "error": {"code": "batch_expired"}}
    found = logged(good, failed, expired, requests=requests)
    assert [each.golden.answer for each in found] == [TEXT, None, None]
    assert "500" in found[1].golden.error
    assert "batch_expired" in found[2].golden.error
    with pytest.raises(CommandFailed, match=r"line 1: .*has no 'r1'.*--batch-input"):
        logged(good)


EMPTY = {**COMPLETION, "choices": [{"message": {"role": "assistant", "content": None}}]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"request": {"messages": ASKED}, "response": EMPTY}, "empty answer"),
        ({"request": {"messages": ASKED}, "response": None}, "no answer was logged"),
        ({"request": {"messages": ASKED}, "response": {"error": {"code": "busy"}}}, "busy"),
        ({"messages": [*ASKED, {"role": "assistant", "content": ""}]}, "empty answer"),
        ({"messages": [*ASKED, {"role": "assistant", "content": None}]}, "empty answer"),
    ],
)
def test_request_that_failed_is_a_case_without_an_answer(row, reason):
    failed, _ = logged(row, SHAPES["recorded"])
    assert list(failed.case.messages) == ASKED
    assert failed.golden.answer is None
    assert reason in failed.golden.error


@pytest.mark.parametrize("body", [None, {}, "busy"])
def test_failed_line_of_a_batch_may_have_any_body(body):
    row = {"custom_id": "r1", "response": {"status_code": 500, "body": body}}
    (found,) = logged(row, requests={"r1": {"messages": ASKED, "model": MODEL}})
    assert "500" in found.golden.error
    assert found.model == MODEL


def test_every_message_of_a_request_is_asked():
    turns = [*ASKED, ANSWER, {"role": "user", "content": "And Dallas?"}]
    (found,) = logged({"request": {"messages": turns}, "response": COMPLETION})
    assert len(found.case.messages) == 3


def test_call_of_a_tool_is_written_as_training_writes_it():
    (found,) = logged({"request": {"messages": ASKED}, "response": CALL})
    assert found.golden.answer == (
        '<tool_call>\n{"name": "find_city", "arguments": {"zip": "78701"}}\n</tool_call>'
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"request": {"messages": ASKED}}, "there is no 'response'"),
        ({"request": {"messages": ASKED}, "response": {"choices": []}}, "choices: "),
        ({"request": {"prompt": "a"}, "response": COMPLETION}, "no messages with roles"),
        ({"messages": ASKED}, "end with an answer"),
        ({"messages": ASKED, "recorded": {"answer": "x"}}, "model: "),
        ({"messages": ASKED, "recorded": {"model": "m", "answer": None}}, "either an answer"),
        ({"messages": [*ASKED, ANSWER, *ASKED]}, "end with an answer"),
        ({"messages": ASKED, "recorded": {"model": "", "answer": "x"}}, "model: "),
        ({"messages": ASKED, "recorded": {"model": "m", "answer": "x" * 131_073}}, "answer"),
        (
            {"messages": ASKED, "recorded": {"model": "m", "answer": None, "error": ""}},
            "error",
        ),
        ({"messages": [*ASKED, ANSWER], "model": "m" * 257}, "model"),
        ({"messages": [*ASKED, ANSWER], "latency_ms": -1}, "latency_ms: "),
        ({"messages": [*ASKED, ANSWER], "latency_ms": "fast"}, "latency_ms: "),
    ],
)
def test_row_of_no_shape_is_refused_by_its_line(row, reason):
    with pytest.raises(CommandFailed, match=f"(?s)logged.jsonl, line 2: .*{reason}.*A row is one"):
        logged(SHAPES["recorded"], row)


def test_answers_of_two_models_are_refused():
    other = SHAPES["stored completion"] | {"model": "ft:other"}
    with pytest.raises(CommandFailed, match="answers of 2 models"):
        logged(SHAPES["stored completion"], other)
