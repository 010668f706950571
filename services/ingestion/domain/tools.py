"""Checks of tools in one training row: what is declared, called and answered.

Source: OpenAI's fine-tuning guide and API reference (tools, tool calls, legacy functions), 2026.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from services.ingestion.domain.findings import Finding, error

_DECLARE = "Declare it in the row's 'tools', or correct the name."


def check_tools(
    row: dict[str, Any], messages: Sequence[object], pointers: Sequence[str], line: int
) -> list[Finding]:
    """
    Everything wrong with the tools of one conversation.

    Args:
        row: The object that declares them.
        messages: All of the conversation.
        pointers: Where each stands in its row.
        line: Of the row in its file, from 1.
    """
    tools, functions = row.get("tools") or [], row.get("functions") or []
    found = [*_check_declared(tools, line, "tools"), *_check_declared(functions, line, "functions")]
    declared = {_name_of(entry) for entry in [*_entries(tools), *_entries(functions)]}
    called: set[str] = set()
    for index, (message, pointer) in enumerate(zip(messages, pointers, strict=True)):
        if not isinstance(message, dict):
            continue
        where = f"Message {index}"
        found.extend(_check_calls(message, declared, line, pointer, where))
        called.update(_ids_of(message))
        found.extend(_check_answer(message, called, line, pointer, where))
    return found


def _check_declared(tools: object, line: int, field: str) -> Iterator[Finding]:
    if not isinstance(tools, list):
        yield error(f"{field}_type", line, f"/{field}", f"'{field}' is no list.", "Write [...].")
        return
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict) or not isinstance(_name_of(tool), str):
            yield error(
                "tool_name",
                line,
                f"/{field}/{index}",
                "A declared tool has no name.",
                'Write {"type": "function", "function": {"name": "...", "parameters": {...}}}.',
            )


def _check_calls(
    message: dict[str, Any], declared: set[object], line: int, pointer: str, where: str
) -> Iterator[Finding]:
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        said = f"{where} has calls that are no list."
        yield error("tool_calls_type", line, f"{pointer}/tool_calls", said, "Write [...].")
    for index, call in enumerate(calls if isinstance(calls, list) else []):
        function = call.get("function") if isinstance(call, dict) else None
        place = f"{pointer}/tool_calls/{index}/function"
        yield from _check_call(function, declared, line, place, where)
    if (legacy := message.get("function_call")) is not None:
        yield from _check_call(legacy, declared, line, f"{pointer}/function_call", where)


def _check_call(
    function: object, declared: set[object], line: int, pointer: str, where: str
) -> Iterator[Finding]:
    given = function if isinstance(function, dict) else {}
    if not _is_json_text(given.get("arguments")):
        yield error(
            "tool_arguments",
            line,
            f"{pointer}/arguments",
            f"{where} calls a tool with arguments that are no JSON text.",
            'Write the arguments as a string holding JSON, for example "{\\"a\\": 1}".',
        )
    name = given.get("name")
    if not isinstance(name, str) or name not in declared:
        said = f"calls {name!r}, a tool" if isinstance(name, str) else "calls a tool"
        yield error(
            "tool_undeclared", line, f"{pointer}/name", f"{where} {said} nobody declared.", _DECLARE
        )


def _check_answer(
    message: dict[str, Any], called: set[str], line: int, pointer: str, where: str
) -> Iterator[Finding]:
    if message.get("role") != "tool":
        return
    answered = message.get("tool_call_id")
    if not isinstance(answered, str) or answered not in called:
        said = f"the call {answered!r}, which nobody made" if answered else "no tool call"
        yield error(
            "tool_call_id",
            line,
            f"{pointer}/tool_call_id",
            f"{where} answers {said}.",
            "Name a call of an earlier message in 'tool_call_id'.",
        )


def _entries(values: object) -> list[dict[str, Any]]:
    """The objects in what should be a list of objects."""
    given = values if isinstance(values, list) else []
    return [value for value in given if isinstance(value, dict)]


def _ids_of(message: dict[str, Any]) -> Iterator[str]:
    """Of the calls a message makes."""
    for call in _entries(message.get("tool_calls")):
        if isinstance(call.get("id"), str):
            yield call["id"]


def _name_of(tool: dict[str, Any]) -> object:
    """Of a tool, whose function has the name, or of a legacy function."""
    function = tool.get("function", tool)
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None


def _is_json_text(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        return False
    return True
