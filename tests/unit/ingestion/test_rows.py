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
        ({"input": {}, "preferred_output": []}, "wrong_format", ""),
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
        (
            _with(1, tool_calls=[{"function": {"name": "f", "arguments": {"a": 1}}}]),
            "tool_arguments",
            "/messages/1/tool_calls/0/function/arguments",
        ),
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
