"""Checks of single training rows."""

from __future__ import annotations

import pytest

from services.ingestion.domain.rows import check_row

GOOD = {
    "messages": [
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "4"},
    ]
}


def _with(index: int, **changes: object) -> dict[str, object]:
    messages = [dict(message) for message in GOOD["messages"]]
    messages[index].update(changes)
    return {"messages": messages}


def test_a_good_row_has_no_findings():
    assert check_row(GOOD, 1) == []


@pytest.mark.parametrize(
    ("row", "rule", "pointer"),
    [
        ({}, "wrong_format", ""),
        ({"prompt": "a", "completion": "b"}, "wrong_format", ""),
        ({"input": {}, "preferred_output": []}, "input_missing", "/input/messages"),
        ({"messages": []}, "messages_missing", "/messages"),
        ({"messages": "text"}, "messages_missing", "/messages"),
        ({"messages": ["text"]}, "message_no_object", "/messages/0"),
        (_with(0, role="bot"), "role_unknown", "/messages/0/role"),
        ({"messages": [{"content": "x"}]}, "role_unknown", "/messages/0/role"),
        (_with(0, content=None), "content_missing", "/messages/0/content"),
        (_with(1, content=4), "content_type", "/messages/1/content"),
        (_with(1, weight=0.5), "weight_value", "/messages/1/weight"),
        (_with(1, weight="1"), "weight_value", "/messages/1/weight"),
        (_with(1, weight=True), "weight_value", "/messages/1/weight"),
        (_with(0, weight=1), "weight_role", "/messages/0/weight"),
        (_with(1, weight=0), "nothing_to_learn", "/messages"),
        (_with(1, content="  "), "nothing_to_learn", "/messages"),
        (_with(0, role="tool"), "tool_call_id", "/messages/0/tool_call_id"),
    ],
)
def test_a_bad_row_is_an_error_with_its_place_and_a_fix(row, rule, pointer):
    errors = [finding for finding in check_row(row, 7) if finding.severity == "error"]
    assert [(finding.rule, finding.pointer, finding.line) for finding in errors] == [
        (rule, pointer, 7)
    ]
    assert errors[0].fix
    assert "Line 7" in errors[0].sentence()


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({**GOOD, "note": 1}, "unknown_key"),
        ({"messages": [*GOOD["messages"], {"role": "user", "content": "?"}]}, "ends_on_question"),
        ({"messages": [*GOOD["messages"], {"role": "system", "content": "x"}]}, "system_not_first"),
    ],
)
def test_an_odd_row_is_a_warning(row, rule):
    found = check_row(row, 1)
    assert rule in {finding.rule for finding in found}
    assert all(finding.severity == "warning" for finding in found)


def _calling(calls: object, tools: object = ("look_up",), answers: object = None):
    """A row that calls tools, and answers one of the calls."""
    declared = [{"type": "function", "function": {"name": name}} for name in tools]
    messages = [
        {"role": "user", "content": "Which?"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_1" if answers is None else answers, "content": "4"},
        {"role": "assistant", "content": "4"},
    ]
    return {"messages": messages, "tools": declared}


def _call(name: object = "look_up", arguments: object = "{}", id: object = "call_1"):  # noqa: A002
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_tools_that_are_declared_called_and_answered_have_no_findings():
    assert check_row(_calling([_call()]), 1) == []
    legacy = {
        "messages": [
            {"role": "user", "content": "Which?"},
            {
                "role": "assistant",
                "content": None,
                "function_call": {"name": "look_up", "arguments": "{}"},
            },
            {"role": "function", "name": "look_up", "content": "4"},
            {"role": "assistant", "content": "4"},
        ],
        "functions": [{"name": "look_up"}],
    }
    assert check_row(legacy, 1) == []


@pytest.mark.parametrize(
    ("row", "rule", "pointer"),
    [
        (
            _calling([_call(arguments={"a": 1})]),
            "tool_arguments",
            "/messages/1/tool_calls/0/function/arguments",
        ),
        (
            _calling([_call(arguments="{")]),
            "tool_arguments",
            "/messages/1/tool_calls/0/function/arguments",
        ),
        (
            _calling([_call(name="look_down")]),
            "tool_undeclared",
            "/messages/1/tool_calls/0/function/name",
        ),
        (
            _calling([_call()], tools=()),
            "tool_undeclared",
            "/messages/1/tool_calls/0/function/name",
        ),
        (_calling([_call()], answers="call_9"), "tool_call_id", "/messages/2/tool_call_id"),
        (_calling([_call(id=["call_1"])]), "tool_call_id", "/messages/2/tool_call_id"),
        ({**GOOD, "tools": "look_up"}, "tools_type", "/tools"),
        ({**GOOD, "tools": [{"type": "function"}]}, "tool_name", "/tools/0"),
        (_with(1, tool_calls=5), "tool_calls_type", "/messages/1/tool_calls"),
    ],
)
def test_tools_that_do_not_fit_are_errors_with_their_place(row, rule, pointer):
    errors = [finding for finding in check_row(row, 7) if finding.severity == "error"]
    assert [(finding.rule, finding.pointer) for finding in errors] == [(rule, pointer)]


def test_calls_of_any_shape_are_findings_and_no_crash():
    for calls in ("text", [5], [{}], [{"function": "text"}], [{"function": {"name": 5}}]):
        assert any(found.severity == "error" for found in check_row(_calling(calls), 1))


PREFERENCE = {
    "input": {"messages": [{"role": "user", "content": "Which?"}]},
    "preferred_output": [{"role": "assistant", "content": "This one."}],
    "non_preferred_output": [{"role": "assistant", "content": "That one."}],
}


def test_a_preference_has_no_findings_under_either_name():
    assert check_row(PREFERENCE, 1) == check_row(PREFERENCE, 1, "preference") == []
    older = {
        "input": PREFERENCE["input"],
        "preferred_completion": PREFERENCE["preferred_output"],
        "non_preferred_completion": PREFERENCE["non_preferred_output"],
    }
    assert check_row(older, 1) == []


@pytest.mark.parametrize(
    ("changes", "rule", "pointer"),
    [
        ({"input": {"messages": []}}, "input_missing", "/input/messages"),
        ({"input": "Which?"}, "input_missing", "/input/messages"),
        (
            {"input": {"messages": [{"role": "bot", "content": "?"}]}},
            "role_unknown",
            "/input/messages/0/role",
        ),
        ({"preferred_output": "This one."}, "answer_missing", "/preferred_output"),
        ({"non_preferred_output": []}, "answer_missing", "/non_preferred_output"),
        (
            {"preferred_output": [{"role": "user", "content": "This one."}]},
            "answer_empty",
            "/preferred_output/0",
        ),
        (
            {"preferred_output": [{"role": "assistant"}]},
            "content_missing",
            "/preferred_output/0/content",
        ),
        (
            {"preferred_output": [{"role": "assistant", "content": "That  one."}]},
            "preference_identical",
            "/preferred_output",
        ),
    ],
)
def test_a_bad_preference_is_an_error_with_its_place(changes, rule, pointer):
    errors = [f for f in check_row({**PREFERENCE, **changes}, 7) if f.severity == "error"]
    assert [(finding.rule, finding.pointer) for finding in errors] == [(rule, pointer)]


def test_the_wrong_format_names_both():
    (chat,) = check_row(GOOD, 1, "preference")
    (preference,) = check_row(PREFERENCE, 1, "chat")
    for finding in (chat, preference):
        assert finding.rule == "wrong_format"
        assert "chat" in finding.message
        assert "preference" in finding.message
