"""Recorded answers of an outside model: what is read, and what is refused by line."""

from __future__ import annotations

import json

import pytest

from services.evaluation.examples import read_examples
from services.evaluation.recorded import RecordedAnswer, read_recorded
from shared.errors import Invalid

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
    return read_recorded(list(read_examples([data])))


def test_an_answer_comes_with_what_was_measured():
    measured = {"latency_ms": 812.4, "input_tokens": 120, "output_tokens": 30}
    plain, whole, failed = _read(
        SAID, {**SAID, **measured}, {**SAID, "answer": None, "error": "content_filter"}
    )
    assert plain == RecordedAnswer(model=OLD, answer="Bonn")
    assert whole.model_dump() == {**SAID, "error": None, **measured}
    assert (failed.answer, failed.error) == (None, "content_filter")


def test_an_empty_answer_and_a_whole_number_of_milliseconds_are_fine():
    (empty,) = _read({**SAID, "answer": "", "latency_ms": 812})
    assert (empty.answer, empty.latency_ms) == ("", 812.0)


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
        ({**SAID, "model": "gpt-4o"}, "an answer of 'gpt-4o'"),
    ],
)
def test_a_broken_recorded_answer_is_refused_with_its_line(recorded, words):
    with pytest.raises(Invalid) as refused:
        _read(SAID, recorded)
    assert (refused.value.code, refused.value.param) == ("invalid_evaluation_file", "file_id")
    assert refused.value.message.startswith("Line 2: ")
    assert words in refused.value.message
