"""Checks of one training row in OpenAI's chat format.

Source: OpenAI's fine-tuning guide and API reference (chat format, `weight`, tool calls), 2026.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from services.ingestion.domain.findings import Finding, error, warning

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_ROW_KEYS = {"messages", "tools", "parallel_tool_calls", "functions"}
_MESSAGE_KEYS = {
    "role",
    "content",
    "name",
    "weight",
    "tool_calls",
    "tool_call_id",
    "function_call",
    "refusal",
}


def check_row(row: dict[str, Any], line: int) -> list[Finding]:
    """
    Everything wrong with one row.

    Args:
        row: The parsed JSON object.
        line: Its line in the file, from 1.
    """
    messages = row.get("messages")
    if messages is None:
        return [_other_format(row, line)]
    if not isinstance(messages, list) or not messages:
        return [
            error(
                "messages_missing",
                line,
                "/messages",
                "'messages' is no list with entries.",
                'Write {"messages": [{"role": "user", ...}, {"role": "assistant", ...}]}.',
            )
        ]
    found = list(_unknown_keys(row, _ROW_KEYS, line, ""))
    for index, message in enumerate(messages):
        found.extend(_check_message(message, line, index))
    if not found or all(finding.severity != "error" for finding in found):
        found.extend(_check_turns(messages, line))
    return found


def trained_turns(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The assistant turns that carry loss: weight is not 0 and there is an answer."""
    return [
        message
        for message in messages
        if message["role"] == "assistant"
        and message.get("weight", 1) != 0
        and (_text(message.get("content")).strip() or message.get("tool_calls"))
    ]


def prompt_key(row: dict[str, Any]) -> str:
    """What a row asks: its messages up to the last assistant turn, as canonical JSON."""
    messages = row["messages"]
    last = max(
        (index for index, message in enumerate(messages) if message["role"] == "assistant"),
        default=len(messages),
    )
    return canonical([(message["role"], message.get("content")) for message in messages[:last]])


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values have equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _other_format(row: dict[str, Any], line: int) -> Finding:
    if "prompt" in row and "completion" in row:
        name = "prompt/completion"
    elif "input" in row and ("preferred_output" in row or "preferred_completion" in row):
        name = "preference"
    else:
        name = "unknown"
    return error(
        "wrong_format",
        line,
        "",
        f"The row has the {name} format; a supervised job needs the chat format.",
        'Write {"messages": [...]} rows.',
    )


def _unknown_keys(
    value: dict[str, Any], known: set[str], line: int, pointer: str
) -> Iterator[Finding]:
    for key in value.keys() - known:
        yield warning(
            "unknown_key",
            line,
            f"{pointer}/{key}",
            f"The key '{key}' is not used in training.",
            "Remove it, or check its spelling.",
        )


def _check_message(message: object, line: int, index: int) -> Iterator[Finding]:
    pointer = f"/messages/{index}"
    where = f"Message {index}"
    if not isinstance(message, dict):
        yield error("message_no_object", line, pointer, f"{where} is no object.", "Write {...}.")
        return
    role = message.get("role")
    if role not in ROLES:
        said = f"has the unknown role {role!r}" if "role" in message else "has no role"
        yield error(
            "role_unknown",
            line,
            f"{pointer}/role",
            f"{where} {said}.",
            f"Use one of {', '.join(ROLES)}.",
        )
        return
    yield from _unknown_keys(message, _MESSAGE_KEYS, line, pointer)
    yield from _check_content(message, line, pointer, where)
    yield from _check_weight(message, line, pointer, where)
    yield from _check_calls(message, line, pointer, where)


def _check_content(
    message: dict[str, Any], line: int, pointer: str, where: str
) -> Iterator[Finding]:
    content = message.get("content")
    may_lack = message["role"] == "assistant" and (
        message.get("tool_calls") or message.get("function_call") or message.get("refusal")
    )
    if content is None and may_lack:
        return
    if content is None:
        yield error(
            "content_missing",
            line,
            f"{pointer}/content",
            f"{where} has no content.",
            "Only an assistant turn with tool calls may leave it out.",
        )
    elif not (isinstance(content, str) or _is_text_parts(content)):
        yield error(
            "content_type",
            line,
            f"{pointer}/content",
            f"{where} has content that is neither text nor a list of text parts.",
            'Write a string, or [{"type": "text", "text": "..."}].',
        )


def _check_weight(
    message: dict[str, Any], line: int, pointer: str, where: str
) -> Iterator[Finding]:
    if "weight" not in message:
        return
    weight = message["weight"]
    if type(weight) is not int or weight not in {0, 1}:
        yield error(
            "weight_value",
            line,
            f"{pointer}/weight",
            f"{where} has the weight {weight!r}.",
            "Use the integer 0 or 1.",
        )
    elif message["role"] != "assistant":
        yield error(
            "weight_role",
            line,
            f"{pointer}/weight",
            f"{where} has a weight but is no assistant turn.",
            "Remove it.",
        )


def _check_calls(message: dict[str, Any], line: int, pointer: str, where: str) -> Iterator[Finding]:
    for index, call in enumerate(message.get("tool_calls") or []):
        arguments = (
            (call.get("function") or {}).get("arguments") if isinstance(call, dict) else None
        )
        if not isinstance(arguments, str) or not _is_json(arguments):
            yield error(
                "tool_arguments",
                line,
                f"{pointer}/tool_calls/{index}/function/arguments",
                f"{where} calls a tool with arguments that are no JSON text.",
                'Write the arguments as a string holding JSON, for example "{\\"a\\": 1}".',
            )
    if message["role"] == "tool" and not message.get("tool_call_id"):
        yield error(
            "tool_call_id",
            line,
            f"{pointer}/tool_call_id",
            f"{where} answers no tool call.",
            "Name the call in 'tool_call_id'.",
        )


def _check_turns(messages: list[dict[str, Any]], line: int) -> Iterator[Finding]:
    if not trained_turns(messages):
        yield error(
            "nothing_to_learn",
            line,
            "/messages",
            "The row has no assistant turn with text and weight 1.",
            "Add the answer the model should learn.",
        )
    if messages[-1]["role"] in {"user", "system", "developer"}:
        yield warning(
            "ends_on_question",
            line,
            f"/messages/{len(messages) - 1}",
            "The last turn is not the assistant's and carries no loss.",
            "End the row with the answer.",
        )
    for index, message in enumerate(messages[1:], start=1):
        if message["role"] in {"system", "developer"}:
            yield warning(
                "system_not_first",
                line,
                f"/messages/{index}",
                "A system turn stands in the middle of the conversation.",
                "Put it first.",
            )


def _is_text_parts(content: object) -> bool:
    return (
        isinstance(content, list)
        and bool(content)
        and all(
            isinstance(part, dict)
            and part.get("type") == "text"
            and isinstance(part.get("text"), str)
            for part in content
        )
    )


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content)
    return ""


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
