"""
The service that is left, over a real socket, in its recorded shapes.

`recorded/` is written from the types of OpenAI's client, its specification and public logs of its
errors; nobody's account made it.
"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest

from services.cli.errors import CommandFailed
from services.cli.imports import patience
from services.cli.imports.chats import chat_of
from services.cli.imports.old_service import OldService, Unfetchable
from services.cli.imports.patience import TryAgain, patiently

RECORDED = Path(__file__).parent / "recorded"
ERRORS = json.loads((RECORDED / "errors.json").read_text())
MODEL = "ft:gpt-4o-mini-2024-07-18:acme:listings:B7fRb1aV"
KEY = "sk-the-whole-key"
CASE = chat_of(
    {
        "messages": [
            {"role": "user", "content": "Austin?"},
            {"role": "assistant", "content": "{}"},
        ],
        "tools": [{"type": "function", "function": {"name": "find_city"}}],
    }
)
CHAT = ("POST", "/v1/chat/completions")


def recorded(name):
    return json.loads((RECORDED / f"{name}.json").read_text())


@pytest.fixture
def waits():
    return []


@pytest.fixture
def old(provider, waits, monkeypatch):
    monkeypatch.setattr(patience, "_FIRST_SECONDS", 0.001)
    return OldService(f"{provider.url}/v1", KEY, per_minute=60_000, seconds=5, on_wait=waits.append)


def ask(old):
    return old.ask(MODEL, CASE, max_answer_tokens=64)


def test_jobs_that_made_a_model_are_found_over_all_pages(provider, old):
    page = recorded("jobs")
    first, rest = page["data"][:1], page["data"][1:]
    provider.will_first_answer(
        "GET", "/v1/fine_tuning/jobs", page | {"data": first, "has_more": True}
    )
    provider.will_first_answer("GET", "/v1/fine_tuning/jobs", page | {"data": rest})
    assert [job.fine_tuned_model for job in old.jobs()] == [
        MODEL,
        "ft:gpt-3.5-turbo-0613:acme::7p4lURel",
    ]
    assert f"after={first[0]['id']}" in provider.asked[1][1]


def test_question_is_asked_once_without_what_only_training_knows(provider, old):
    provider.will_answer(*CHAT, recorded("chat_completion"))
    golden = ask(old)
    assert golden.answer == '{"city":"Austin"}'
    assert (golden.input_tokens, golden.output_tokens) == (19, 10)
    assert golden.latency_ms > 0
    (body,) = provider.bodies(*CHAT)
    assert body == {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Austin?"}],
        "temperature": 0,
        "max_completion_tokens": 64,
        "tools": CASE.tools["tools"],
    }


def test_call_of_a_tool_is_an_answer(provider, old):
    provider.will_answer(*CHAT, recorded("chat_tool_call"))
    assert '"find_city"' in ask(old).answer


def test_filtered_answer_is_none_and_says_why(provider, old):
    provider.will_answer(*CHAT, recorded("chat_filtered"))
    golden = ask(old)
    assert golden.answer is None
    assert "content_filter" in golden.error
    assert golden.input_tokens == 19


def test_cut_answer_is_marked(provider, old):
    answer = recorded("chat_completion")
    answer["choices"][0]["finish_reason"] = "length"
    provider.will_answer(*CHAT, answer)
    assert ask(old).is_cut


def test_prompt_that_is_refused_is_an_outcome_of_its_case(provider, old):
    provider.will_answer(*CHAT, ERRORS["context"], status=400)
    golden = ask(old)
    assert golden.answer is None
    assert "context_length_exceeded" in golden.error
    assert golden.is_refused


def with_message(message, **more):
    answer = recorded("chat_completion")
    answer["choices"][0]["message"] = message
    return answer | more


@pytest.mark.parametrize(
    "body",
    [
        with_message("words"),
        with_message(None),
        with_message({"role": "assistant", "content": {"a": 1}}),
        with_message({"role": "assistant", "content": None}, usage=None),
        [1, 2],
        {"choices": "none"},
        None,
    ],
)
def test_answer_that_cannot_be_read_is_kept_as_paid_for(provider, old, body):
    provider.will_answer(*CHAT, body)
    golden = ask(old)
    assert golden.answer is None
    assert golden.error
    assert golden.input_tokens is None
    assert not golden.is_refused


def test_answer_nested_beyond_reading_is_kept_as_paid_for(provider, old):
    provider.will_answer(*CHAT, b"[" * 200_000)
    assert ask(old).error == "an answer that cannot be read (the whole)"


@pytest.mark.parametrize("usage", [{"prompt_tokens": 1.5, "completion_tokens": -1}, "many", [1]])
def test_counts_that_are_none_are_unknown(provider, old, usage):
    provider.will_answer(*CHAT, recorded("chat_completion") | {"usage": usage})
    golden = ask(old)
    assert golden.answer == '{"city":"Austin"}'
    assert (golden.input_tokens, golden.output_tokens) == (None, None)


def test_text_that_cannot_be_written_down_is_mended(provider, old):
    message = {"role": "assistant", "content": "a\ud83d b\x00"}
    provider.will_answer(*CHAT, with_message(message))
    assert ask(old).answer == "a\ufffd b\ufffd"


def test_key_in_an_answer_is_not_repeated_whatever_the_status(provider, old):
    for status in (400, 403, 500):
        body = {"error": {"message": f"odd: {KEY}", "param": 7, "code": None}}
        provider.will_answer(*CHAT, body, status=status)
        with pytest.raises((CommandFailed, TryAgain), match=r"odd: \*\*\*") as refused:
            ask(old)
        assert KEY not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("model_gone", 404, "does not exist or you do not have access"),
        ("training_not_available", 403, "training_not_available"),
        ("quota", 429, "insufficient_quota"),
        ("parameter", 400, "unsupported_parameter"),
    ],
)
def test_no_for_good_ends_the_import_in_its_words(provider, old, name, status, said):
    provider.will_answer(*CHAT, ERRORS[name], status=status)
    with pytest.raises(CommandFailed, match=said):
        ask(old)
    assert len(provider.asked) == 1


def test_service_that_repeats_the_key_is_not_quoted(provider, old):
    provider.will_answer(*CHAT, ERRORS["key"], status=401)
    with pytest.raises(CommandFailed, match="key is not accepted") as refused:
        ask(old)
    assert KEY not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "status", "may_be_billed"),
    [("rate", 429, False), ("overloaded", 500, True), ("overloaded", 503, True)],
)
def test_what_may_pass_says_whether_it_may_be_billed(provider, old, name, status, may_be_billed):
    provider.will_answer(*CHAT, ERRORS[name], status=status, headers={"retry-after-ms": "20"})
    with pytest.raises(TryAgain) as later:
        ask(old)
    assert later.value.may_be_billed is may_be_billed
    assert later.value.after_seconds == pytest.approx(0.02)
    assert len(provider.asked) == 1  # the client repeats nothing by itself


@pytest.mark.parametrize("content", [b"<html>busy</html>", b"", b'{"id": "x", "choices": []}'])
def test_answer_that_is_none_may_be_billed(provider, old, content):
    provider.will_answer(*CHAT, content)
    with pytest.raises(TryAgain) as later:
        ask(old)
    assert later.value.may_be_billed


def test_nobody_there_is_tried_again():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    old = OldService(
        f"http://127.0.0.1:{port}/v1", KEY, per_minute=6000, seconds=1, on_wait=lambda _: None
    )
    with pytest.raises(TryAgain, match="No answer from 127"):
        ask(old)


def test_reading_outlasts_limits_of_rate(provider, old, waits):
    for _ in range(2):
        provider.will_first_answer(
            "GET", "/v1/models", ERRORS["rate"], status=429, headers={"retry-after": "0"}
        )
    provider.will_answer("GET", "/v1/models", recorded("models"))
    assert MODEL in old.models()
    assert len(waits) == 2
    assert "Attempt 3 of" in waits[1]


def test_long_wait_that_is_asked_for_is_left_to_the_user(provider, old):
    provider.will_answer(
        "GET", "/v1/models", ERRORS["rate"], status=429, headers={"retry-after": "3600"}
    )
    with pytest.raises(CommandFailed, match="asks to wait 3600 s; repeat the command later"):
        old.models()
    assert len(provider.asked) == 1


def test_patience_ends(monkeypatch):
    monkeypatch.setattr(patience, "_FIRST_SECONDS", 0.001)
    attempts = []

    def attempt():
        attempts.append(1)
        raise TryAgain("It is busy.", may_be_billed=False)

    with pytest.raises(CommandFailed, match="Gave up after 7 attempts"):
        patiently(attempt, lambda _: None)
    assert len(attempts) == 7


def test_calls_keep_the_pace(provider):
    provider.will_answer("GET", "/v1/models", recorded("models"))
    old = OldService(f"{provider.url}/v1", KEY, per_minute=600, seconds=5, on_wait=lambda _: None)
    begun = time.monotonic()
    for _ in range(4):
        old.models()
    assert time.monotonic() - begun >= 0.3


def test_file_is_fetched_as_it_is(provider, old):
    provider.will_answer("GET", "/v1/files/file-train", recorded("file"))
    provider.will_answer("GET", "/v1/files/file-train/content", b'{"messages": []}\n')
    assert old.file("file-train").name == "listings.jsonl"
    assert old.content("file-train") == b'{"messages": []}\n'


@pytest.mark.parametrize(
    ("name", "status"),
    [("file_gone", 404), ("download_refused", 400), ("training_not_available", 403)],
)
def test_file_that_is_not_given_out_says_why(provider, old, name, status):
    path = "/v1/files/file-expired/content"
    provider.will_answer("GET", path, ERRORS[name], status=status)
    with pytest.raises(Unfetchable, match=ERRORS[name]["error"]["message"]):
        old.content("file-expired")
