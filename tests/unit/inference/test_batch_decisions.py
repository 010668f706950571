"""Files of batches, their states, and when a line is asked again."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.batches.domain.questions import check_questions
from services.inference.batches.domain.results import (
    EXPIRED,
    Result,
    Tokens,
    repeat_pause,
    rest_seconds,
    write_answer,
    write_body,
    write_silence,
)
from services.inference.batches.domain.states import TERMINAL, TRANSITIONS, State, end_of
from shared.jsonl import read_lines

CHAT = "/v1/chat/completions"
LINE = {"custom_id": "a", "method": "POST", "url": CHAT, "body": {"model": "m", "messages": []}}


def checked(*lines, most=10):
    raw = "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in lines)
    return check_questions(read_lines([raw.encode()]), CHAT, most=most)


def test_a_good_file_is_counted_and_its_models_are_named():
    found = checked(LINE, LINE | {"custom_id": "b"}, LINE | {"custom_id": "c", "body": {}})
    assert (found.errors, found.total, found.models) == ([], 3, {"m"})


@pytest.mark.parametrize(
    ("line", "code", "param"),
    [
        ("{not json", "invalid_json_line", None),
        ("[1]", "invalid_json_line", None),
        (r'{"\ud800": 1, "\ud800": 2}', "invalid_json_line", None),
        (LINE | {"custom_id": ""}, "missing_required_parameter", "custom_id"),
        (LINE | {"custom_id": 7}, "missing_required_parameter", "custom_id"),
        (LINE | {"custom_id": "x" * 513}, "missing_required_parameter", "custom_id"),
        (LINE | {"custom_id": "first"}, "duplicate_custom_id", "custom_id"),
        (LINE | {"method": "GET"}, "invalid_method", "method"),
        (LINE | {"url": "/v1/embeddings"}, "mismatched_url", "url"),
        (LINE | {"body": None}, "missing_required_parameter", "body"),
        (LINE | {"body": {"stream": True}}, "unsupported_parameter", "body.stream"),
    ],
)
def test_a_line_that_is_no_request_is_named(line, code, param):
    (error,) = checked(LINE | {"custom_id": "first"}, "", line).errors
    assert (error.code, error.param, error.line) == (code, param, 3)
    assert error.message.startswith("Line 3: ")
    assert error.message.isascii()


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "empty_file"),
        (b"\n \n", "empty_file"),
        (b"\xff\xfe{\x00", "not_utf8"),
        (b"{" + b" " * (1 << 20) + b"}", "line_too_long"),
    ],
)
def test_a_file_that_is_none_is_refused_as_a_whole(raw, code):
    (error,) = check_questions(read_lines([raw]), CHAT, most=10).errors
    assert (error.code, error.line) == (code, None)


def test_a_file_with_too_many_requests_is_not_read_to_its_end():
    lines = (LINE | {"custom_id": str(number)} for number in range(10**9))
    found = check_questions(
        read_lines(json.dumps(line).encode() + b"\n" for line in lines), CHAT, most=3
    )
    assert [error.code for error in found.errors] == ["too_many_requests"]


def test_of_a_bad_file_a_hundred_errors_are_told():
    assert len(checked(*["x"] * 150, most=1_000).errors) == 100


def test_every_state_is_reached_and_an_end_is_left_by_nobody():
    reached = {State.VALIDATING}.union(*TRANSITIONS.values())
    assert reached == set(State) == set(TRANSITIONS)
    assert {State.COMPLETED, State.EXPIRED, State.CANCELLED, State.FAILED} == TERMINAL


@pytest.mark.parametrize(
    ("state", "unanswered", "end"),
    [
        (State.FINALIZING, 0, State.COMPLETED),
        (State.FINALIZING, 1, State.EXPIRED),
        (State.CANCELLING, 0, State.CANCELLED),
        (State.CANCELLING, 5, State.CANCELLED),
    ],
)
def test_a_batch_ends_as_it_went(state, unanswered, end):
    assert end_of(state, unanswered=unanswered) is end
    assert end in TRANSITIONS[state]


def pause(status, code=None, failures=1, retry_after=0.0, chance=0.5):
    return repeat_pause(status, code, failures, retry_after=retry_after, chance=chance)


@pytest.mark.parametrize("status", [200, 400, 404, 413, 500, 502, 507])
def test_what_will_not_change_is_an_answer(status):
    assert pause(status) is None


def test_what_passes_is_asked_again_for_more_than_an_hour():
    waited = [pause(503, "model_paused", failures) for failures in range(1, 100)]
    assert 1_800 < sum(seconds for seconds in waited if seconds is not None) < 6_000
    assert pause(503, "model_paused", 100) is None
    assert pause(429, "too_many_requests", 99) is not None


def test_a_request_that_is_too_long_for_its_time_is_asked_twice():
    assert pause(503, "upstream_timeout", 1) is not None
    assert pause(503, "upstream_timeout", 2) is None


@given(st.integers(1, 99), st.floats(0, 1e6), st.floats(0, 1, exclude_max=True))
def test_pauses_are_as_long_as_asked_for_and_never_above_two_minutes(failures, asked, chance):
    seconds = pause(429, None, failures, asked, chance)
    assert seconds is not None
    assert min(asked, 60) <= seconds <= 120


def test_lines_of_the_files_have_openais_form():
    body = json.dumps({"choices": ["é\0"]})
    line = json.loads(write_answer("batch_1f", 7, 'n"1', Result(200, "infr_1", body)))
    assert line == {
        "id": "batch_req_1f00007",
        "custom_id": 'n"1',
        "response": {"status_code": 200, "request_id": "infr_1", "body": {"choices": ["é\0"]}},
        "error": None,
    }
    silent = json.loads(write_silence("batch_1f", 8, "b", EXPIRED))
    assert silent["response"] is None
    assert silent["error"]["code"] == "batch_expired"


def test_a_batch_that_cannot_go_on_rests_longer_each_time():
    assert [rest_seconds(n, first=10) for n in (1, 2, 3, 4, 5)] == [10, 100, 1000, 3600, 3600]


@pytest.mark.parametrize(
    "body", [{}, {"a": [], "b": {"c": [1]}, "ü": None}, {"data": [{"e": [0.25, -1]}, "x"], "n": 1}]
)
def test_an_answer_is_written_as_json_writes_it(body):
    assert write_body(body) == json.dumps(body, separators=(",", ":"))


def test_tokens_are_those_of_a_good_answer():
    assert Tokens.of({"usage": {"prompt_tokens": 3, "completion_tokens": 2}}) == Tokens(3, 2)
    assert Tokens.of({"usage": {"prompt_tokens": 3, "total_tokens": 3}}) == Tokens(3, 0)
    assert Tokens.of({"error": {"code": "x"}}) == Tokens(0, 0)
