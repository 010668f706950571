"""Checks 28 to 36: what a bad file makes of a job."""

from __future__ import annotations

import openai
import pytest

from tests.conformance.samples import BASE, chat, ended, jsonl, rows, upload

TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {"type": "object", "properties": {"code": {"type": "string"}}},
    },
}
PREFERENCE = {
    "input": {"messages": [{"role": "user", "content": "Which?"}]},
    "preferred_output": [{"role": "assistant", "content": "This."}],
    "non_preferred_output": [{"role": "assistant", "content": "That."}],
}


def refused(client: openai.OpenAI, content: bytes, validation: bytes | None = None, **fields):
    """Error of a job that failed on its files, with all that a failed job has."""
    held_out = None if validation is None else upload(client, validation, "validation.jsonl").id
    job = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=upload(client, content).id,
        validation_file=held_out or openai.omit,
        **fields,
    )
    failed = ended(client, job.id, seconds=60)
    assert (failed.status, failed.fine_tuned_model) == ("failed", None)
    assert failed.finished_at
    return failed.error


def with_bad(bad: object, line: int = 12) -> bytes:
    """Good rows, but for one on a line."""
    good = rows()
    return jsonl([*good[: line - 1], bad, *good[line:]])


def test_check_28_nine_rows_are_too_few(client):
    """Nine rows are `invalid_n_examples`."""
    error = refused(client, jsonl(rows(9)))
    assert (error.code, error.param) == ("invalid_n_examples", "training_file")


def test_check_29_broken_json_is_named_by_its_line(client):
    """A line that is no JSON is `invalid_training_file`, with its number."""
    error = refused(client, with_bad(b'{"messages": [', line=12))
    assert (error.code, error.param) == ("invalid_training_file", "training_file")
    assert "ine 12" in error.message


def test_check_29_broken_json_is_named_in_a_short_file_too(client):
    """The line is named even where the other rows are too few."""
    short = jsonl([*rows(4), b'{"messages": [', *rows(9)[4:]])
    assert "ine 5" in refused(client, short).message


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "oracle", "content": "4"},
        {"content": "4"},
        {"role": "assistant"},
        {"role": "user", "content": "4"},
    ],
    ids=["unknown role", "no role", "no content", "no assistant turn"],
)
def test_check_30_a_bad_message_is_named_by_line_and_index(client, turn):
    """Role and content are asked for; the message says which line and which message."""
    error = refused(client, with_bad({"messages": [{"role": "user", "content": "2+2?"}, turn]}))
    assert error.code == "invalid_training_file"
    assert "ine 12" in error.message
    assert "essage" in error.message


def test_check_31_nothing_to_learn_is_an_error(client):
    """Rows of which nothing counts are refused."""
    error = refused(client, jsonl(chat(f"{n}?", "4", weight=0) for n in range(12)))
    assert error.code == "invalid_training_file"


@pytest.mark.parametrize("weight", [0.5, "1", True])
def test_check_32_weights_are_nought_or_one(client, weight):
    """A weight that is neither 0 nor 1 is refused."""
    error = refused(client, with_bad(chat("2+2?", "4", weight=weight)))
    assert "weight" in error.message


def test_check_33_preferences_are_no_rows_of_a_supervised_job(client):
    """Preferences in a supervised job are refused, and both formats named."""
    error = refused(client, jsonl([PREFERENCE] * 12))
    assert "messages" in error.message
    assert "prefer" in error.message


def test_check_33_conversations_are_no_rows_of_a_dpo_job(client):
    """Conversations in a dpo job are refused, and both formats named."""
    error = refused(client, jsonl(rows()), method={"type": "dpo"})
    assert "messages" in error.message
    assert "prefer" in error.message


def with_call(arguments: object = "{}", name: str = "look_up", answers: str = "call_1") -> bytes:
    """Good rows, but for one with a tool call."""
    call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}
    messages = [
        {"role": "user", "content": "Which code?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": answers, "content": "AB"},
        {"role": "assistant", "content": "AB"},
    ]
    return with_bad({"messages": messages, "tools": [TOOL]})


@pytest.mark.parametrize("arguments", ["{", {"code": "1"}], ids=["no JSON", "no text"])
def test_check_34_arguments_are_json_texts(client, arguments):
    """Arguments of a tool call are a text that holds JSON."""
    assert "arguments" in refused(client, with_call(arguments)).message


@pytest.mark.parametrize(
    "row",
    [with_call(answers="call_9"), with_call(name="look_down")],
    ids=["unknown call", "undeclared tool"],
)
def test_check_34_calls_are_declared_and_answered(client, row):
    """An answer to an unknown call, and a call of an undeclared tool, are refused."""
    assert "call" in refused(client, row).message


def test_check_35_broken_validation_files_are_named(client):
    """A broken validation file is `invalid_validation_file`."""
    error = refused(client, jsonl(rows()), with_bad(b"{"))
    assert (error.code, error.param) == ("invalid_validation_file", "validation_file")


def test_check_36_cut_rows_are_told(client):
    """A row whose end is cut is warned of; one whose answer is wholly cut is refused."""
    long = chat("Count on.", " ".join(str(n) for n in range(2_000)))
    content = with_bad(long)
    job = client.fine_tuning.jobs.create(model=BASE, training_file=upload(client, content).id)
    try:
        told = ""
        while "longer than the model reads: 1." not in told:
            job = client.fine_tuning.jobs.retrieve(job.id)
            assert job.status in {"validating_files", "queued"}, told
            events = client.fine_tuning.jobs.list_events(job.id)
            told = " ".join(e.message for e in events if e.level == "warn")
    finally:
        client.fine_tuning.jobs.cancel(job.id)
    no_answer = chat(" ".join(str(n) for n in range(2_000)), "yes")
    assert "no answer" in refused(client, with_bad(no_answer)).message
