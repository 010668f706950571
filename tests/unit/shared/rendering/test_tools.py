"""What a model is told of tools, and how its calls are read back."""

from __future__ import annotations

import json

import pytest

from shared.errors import Invalid
from shared.rendering.bases import find_base
from shared.rendering.chat import render
from shared.rendering.tokenizer import decode
from shared.rendering.tools import Call, functions_of, read_calls, write_call

BASE = find_base("smollm2-135m-instruct")
WEATHER = {"name": "get_weather", "description": "Weather now.", "parameters": {"type": "object"}}
ASKED = {"role": "user", "content": "Rain in Bern?"}


def written(messages, **options) -> str:
    rendered = render(BASE, messages, add_generation_prompt=True, **options)
    return decode(BASE, rendered.token_ids)


def test_tools_are_told_in_the_first_system_turn():
    bare = written([ASKED], functions=[WEATHER])
    assert bare.index("get_weather") < bare.index("Rain in Bern?")
    system = {"role": "system", "content": "Be brief."}
    told = written([system, ASKED], functions=[WEATHER])
    assert told.count("<|im_start|>system") == 1
    assert told.index("Be brief.") < told.index("get_weather") < told.index("Rain in Bern?")


def test_half_a_surrogate_pair_is_written_as_something_else():
    assert "cut ? off" in written([{"role": "user", "content": "cut \ud83d off"}])


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": None, "tool_calls": 5},
        {"role": "assistant", "content": "x", "weight": []},
        {"role": "user", "content": [{"type": [], "text": "x"}]},
    ],
)
def test_odd_messages_are_refused_and_crash_nothing(message):
    with pytest.raises(Invalid):
        written([message])


def test_without_tools_nothing_changes():
    assert written([ASKED], functions=[]) == written([ASKED])


def test_both_names_of_functions_are_read():
    tools = [{"type": "function", "function": WEATHER}]
    assert functions_of({"tools": tools}) == functions_of({"functions": [WEATHER]}) == [WEATHER]
    assert functions_of({"tools": ["text", {"type": "function"}], "functions": None}) == []
    assert functions_of({"tools": 5, "functions": "text"}) == []


def test_a_call_that_was_written_is_read():
    text = "Let me look.\n" + write_call("get_weather", {"city": "Bern"})
    content, calls = read_calls(text)
    assert content == "Let me look."
    assert calls == [Call("get_weather", '{"city": "Bern"}')]
    (call,) = read_calls(write_call("get_weather", {"city": "Zürich"}))[1]
    assert json.loads(call.arguments) == {"city": "Zürich"}
    (half,) = read_calls('<tool_call>\n{"name": "f", "arguments": {"x": "\\ud83d"}}')[1]
    half.arguments.encode()


def test_several_calls_are_read_in_order_and_the_last_may_lack_its_end():
    text = write_call("a", {}) + "\n" + write_call("b", {"n": 1})
    assert [call.name for call in read_calls(text)[1]] == ["a", "b"]
    assert [call.name for call in read_calls(text.removesuffix("\n</tool_call>"))[1]] == ["a", "b"]


@pytest.mark.parametrize(
    "text",
    [
        "no call",
        "<tool_call>\n{broken\n</tool_call>",
        '<tool_call>\n["name"]\n</tool_call>',
        '<tool_call>\n{"name": 5}\n</tool_call>',
        "<tool_call>\n" + "[" * 100_000 + "\n</tool_call>",
        "<tool_call>",
    ],
)
def test_what_is_no_call_stays_text(text):
    assert read_calls(text) == (text, [])
