"""Recorded answers of an outside model: what is read, and what is refused by line."""

from __future__ import annotations

import json

import pytest

from services.evaluation.examples import lay_out, read_examples, recorded_model
from services.evaluation.recorded import RecordedAnswer
from shared.errors import Invalid
from shared.rendering.bases import find_base

OLD = "ft:gpt-4o-mini:acme::abc"
SAID = {"model": OLD, "answer": "Bonn"}


def _read(*recorded):
    rows = [
        {
            "messages": [
                {"role": "user", "content": "Which city?"},
                {"role": "assistant", "content": "Bonn"},
            ],
            "recorded": said,
        }
        for said in recorded
    ]
    data = "\n".join(map(json.dumps, rows)).encode()
    return list(read_examples([data], recorded=True))


def test_an_answer_comes_with_what_was_measured():
    measured = {"latency_ms": 812.4, "input_tokens": 120, "output_tokens": 30}
    examples = _read(
        SAID, {**SAID, **measured}, {**SAID, "answer": None, "error": "content_filter"}
    )
    plain, whole, failed = (example.recorded for example in examples)
    assert plain == RecordedAnswer(model=OLD, answer="Bonn")
    assert whole.model_dump() == {**SAID, "error": None, **measured}
    assert (failed.answer, failed.error) == (None, "content_filter")


def test_an_empty_answer_and_a_whole_number_of_milliseconds_are_fine():
    (example,) = _read({**SAID, "answer": "", "latency_ms": 812})
    assert (example.recorded.answer, example.recorded.latency_ms) == ("", 812.0)


def test_an_answer_is_waited_for_as_long_as_the_recorded_one_is():
    base = find_base("smollm2-135m-instruct")
    short, long, failed = _read(
        SAID,
        {**SAID, "answer": "Bonn " * 40},
        {"model": OLD, "answer": None, "error": "content_filter"},
    )
    assert lay_out(base, short).longest == len(lay_out(base, short).target)
    assert lay_out(base, long).longest > 40 > lay_out(base, failed).longest


def test_rows_are_of_one_model():
    assert recorded_model(_read(SAID, SAID)) == OLD
    with pytest.raises(Invalid) as refused:
        recorded_model(_read(SAID, SAID, {**SAID, "model": "gpt-4o"}))
    assert refused.value.code == "invalid_evaluation_file"
    assert refused.value.message.startswith("Line 3: an answer of 'gpt-4o'")


@pytest.mark.parametrize(
    ("recorded", "words"),
    [
        (None, "no recorded answer"),
        ("Bonn", "'recorded'"),
        ({"model": OLD}, "'recorded.answer'"),
        ({"answer": "Bonn"}, "'recorded.model'"),
        ({**SAID, "model": ""}, "'recorded.model'"),
        ({**SAID, "answer": 5}, "'recorded.answer'"),
        ({**SAID, "answer": None}, "either an answer, or null and an error"),
        ({**SAID, "answer": "a" * 131_073}, "at most 131072 characters"),
        ({**SAID, "error": "timeout"}, "either an answer, or null and an error"),
        ({**SAID, "latency_ms": "812"}, "'recorded.latency_ms'"),
        ({**SAID, "latency_ms": -1}, "'recorded.latency_ms'"),
        ({**SAID, "input_tokens": 1.5}, "'recorded.input_tokens'"),
        ({**SAID, "output_tokens": 1 << 31}, "'recorded.output_tokens'"),
        ({**SAID, "latency": 812.4}, "'recorded.latency'"),
    ],
)
def test_a_broken_recorded_answer_is_refused_with_its_line(recorded, words):
    with pytest.raises(Invalid) as refused:
        _read(SAID, recorded)
    assert (refused.value.code, refused.value.param) == ("invalid_evaluation_file", "file_id")
    assert refused.value.message.startswith("Line 2: ")
    assert words in refused.value.message
