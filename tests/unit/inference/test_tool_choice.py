"""Which tools an answer calls, and how it says so."""

from __future__ import annotations

import json

import pytest

from services.inference.domain.generation import Choice, End, Piece, Usage
from services.inference.domain.shapes import Heading, ToolShape
from services.inference.domain.tools import Tools, choose_tools
from services.inference.schemas import ChatRequest
from shared.errors import Invalid
from shared.rendering.tools import OPEN, write_call

WEATHER = {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}
TIME = {"name": "get_time"}
HEADING = Heading("chatcmpl-1", 1, "m")
USAGE = Usage(1, 1, 0)
STOPPED = End("stop", 1, 1)


def chat(**fields) -> ChatRequest:
    tools = [{"type": "function", "function": function} for function in (WEATHER, TIME)]
    asked = [{"role": "user", "content": "?"}]
    return ChatRequest.model_validate({"model": "m", "messages": asked, "tools": tools, **fields})


def named(name: str) -> dict[str, object]:
    return {"type": "function", "function": {"name": name}}


def test_choices_of_tools():
    assert chat(tool_choice="none").offered_tools is None
    assert chat(tools=None).offered_tools is None
    assert chat().offered_tools.mode == chat(tool_choice="auto").offered_tools.mode == "auto"
    assert chat(tool_choice="required").offered_tools.is_forced
    chosen = chat(tool_choice=named("get_time")).offered_tools
    assert (chosen.mode, [each["name"] for each in chosen.functions]) == ("named", ["get_time"])
    assert chat().offered_tools.is_parallel
    assert not chat(parallel_tool_calls=False).offered_tools.is_parallel


@pytest.mark.parametrize("choice", ["perhaps", named("get_rain"), {}, {"function": 5}])
def test_a_choice_of_nothing_declared_is_refused(choice):
    with pytest.raises(Invalid) as refused:
        chat(tool_choice=choice).sampling()
    assert refused.value.param == "tool_choice"


def test_a_choice_without_tools_is_refused():
    with pytest.raises(Invalid, match="only allowed with tools"):
        chat(tools=None, tool_choice="required").sampling()


def test_a_forced_call_has_to_fulfil_the_schema_of_its_tool():
    schema = chat(tool_choice=named("get_weather")).sampling().json_schema
    assert schema["properties"]["name"] == {"const": "get_weather"}
    arguments = schema["properties"]["arguments"]
    assert arguments == {"type": "object", "properties": {}, "additionalProperties": False}
    assert len(chat(tool_choice="required").sampling().json_schema["anyOf"]) == 2
    assert chat().sampling().json_schema is None


def test_arguments_that_nobody_declared_are_not_made_up_unless_allowed():
    inner = {"type": "object", "properties": {"n": {"type": "integer"}}}
    free = {"type": "object", "properties": {}, "additionalProperties": True}
    parameters = {
        "type": "object",
        "properties": {"inner": inner, "list": {"type": "array", "items": inner}, "free": free},
    }
    tools = choose_tools([{"name": "f", "parameters": parameters}], "required", is_parallel=True)
    arguments = tools.schema["properties"]["arguments"]
    closed = {**inner, "additionalProperties": False}
    assert arguments["additionalProperties"] is False
    assert arguments["properties"]["inner"] == closed
    assert arguments["properties"]["list"]["items"] == closed
    assert arguments["properties"]["free"] == free
    nothing = choose_tools([{"name": "f"}], "required", is_parallel=True)
    assert nothing.schema["properties"]["arguments"] == {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }


def test_definitions_of_tools_are_found_from_the_root():
    inner = {"type": "object", "properties": {"n": {"type": "integer"}}}
    parameters = {
        "type": "object",
        "properties": {"inner": {"$ref": "#/$defs/Inner"}},
        "$defs": {"Inner": inner},
    }
    functions = [{"name": name, "parameters": parameters} for name in ("f", "g")]
    schema = choose_tools(functions, "required", is_parallel=True).schema
    assert schema["$defs"].keys() == {"f.Inner", "g.Inner"}
    assert schema["$defs"]["f.Inner"] == {**inner, "additionalProperties": False}
    arguments = schema["anyOf"][1]["properties"]["arguments"]
    assert arguments["properties"]["inner"] == {"$ref": "#/$defs/g.Inner"}
    assert "$defs" not in arguments


def test_parameters_that_are_nested_too_deeply_are_refused():
    deep: dict[str, object] = {}
    for _ in range(100):
        deep = {"items": deep}
    tools = [{"type": "function", "function": {"name": "f", "parameters": deep}}]
    with pytest.raises(Invalid, match="nested deeper"):
        chat(tools=tools, tool_choice="required").sampling()


def test_a_format_beside_free_tools_is_refused():
    wanted = {"type": "json_object"}
    with pytest.raises(Invalid) as refused:
        chat(response_format=wanted).sampling()
    assert refused.value.param == "response_format"
    assert chat(response_format=wanted, tool_choice="none").sampling().json_schema


def body_of(tools: Tools, text: str, end: End = STOPPED):
    (choice,) = ToolShape(tools).body(HEADING, [Choice(text, (), end)], USAGE)["choices"]
    return choice


def test_calls_of_an_answer_are_told():
    calling = "Let me see.\n" + write_call("get_weather", {"city": "Bern"}) + write_call("x", {})
    choice = body_of(chat().offered_tools, calling)
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Let me see."
    first, second = choice["message"]["tool_calls"]
    assert first["function"]["name"] == "get_weather"
    assert json.loads(first["function"]["arguments"]) == {"city": "Bern"}
    assert first["id"] != second["id"]
    alone = body_of(chat(parallel_tool_calls=False).offered_tools, calling)
    assert len(alone["message"]["tool_calls"]) == 1


def test_an_answer_without_calls_is_an_answer():
    choice = body_of(chat().offered_tools, "It rains.", End("length", 1, 1))
    assert choice["message"] == {"role": "assistant", "refusal": None, "content": "It rains."}
    assert choice["finish_reason"] == "length"


def test_a_forced_call_was_opened_by_its_prompt():
    forced = chat(tool_choice="required").offered_tools
    (call,) = body_of(forced, '{"name": "get_time", "arguments": {}}')["message"]["tool_calls"]
    assert call["function"] == {"name": "get_time", "arguments": "{}"}
    cut = body_of(forced, '{"name": "get_time", "argu', End("length", 1, 1))
    assert (cut["finish_reason"], cut["message"]["content"]) == (
        "length",
        '{"name": "get_time", "argu',
    )


def test_functions_are_the_older_form_of_the_same():
    older = chat(
        tools=None, functions=[WEATHER], function_call={"name": "get_weather"}
    ).offered_tools
    assert older == choose_tools(
        [WEATHER], {"name": "get_weather"}, is_parallel=False, is_older=True
    )
    choice = body_of(older, '{"name": "get_weather", "arguments": {}}')
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "get_weather", "arguments": "{}"}
    free = chat(tools=None, functions=[WEATHER]).offered_tools
    assert body_of(free, write_call("a", {}) + write_call("b", {}))["finish_reason"] == (
        "function_call"
    )


def test_a_stream_tells_calls_at_its_end():
    shape = ToolShape(chat().offered_tools)
    text = write_call("get_weather", {"city": "Bern"})
    half = len(OPEN) + 3
    assert shape.chunks(HEADING, 0, Piece(text[:half])) == []
    told, end = shape.chunks(HEADING, 0, Piece(text[half:], end=STOPPED))
    (call,) = told["choices"][0]["delta"]["tool_calls"]
    assert (call["index"], call["function"]["name"]) == (0, "get_weather")
    assert end["choices"][0]["finish_reason"] == "tool_calls"
    assert end["choices"][0]["delta"] == {}
