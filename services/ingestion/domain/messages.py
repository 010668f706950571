"""Checks of the messages of a training row: role, content, weight.

Source: OpenAI's fine-tuning guide and API reference (chat format, `weight`), 2026.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from services.ingestion.domain.findings import Finding, error, warning

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
ROW_KEYS = frozenset({"messages", "tools", "parallel_tool_calls", "functions"})
_MESSAGE_KEYS = frozenset(
    {
        "role",
        "content",
        "name",
        "weight",
        "tool_calls",
        "tool_call_id",
        "function_call",
        "refusal",
    }
)


def check_conversation(
    messages: Sequence[object], pointers: Sequence[str], line: int
) -> Iterator[Finding]:
    """What is wrong with messages, each named by its number and its pointer."""
    for index, (message, pointer) in enumerate(zip(messages, pointers, strict=True)):
        yield from _check_message(message, line, pointer, f"Message {index}")


def trained_turns(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The assistant turns that carry loss: weight is not 0 and there is an answer."""
    return [
        message
        for message in messages
        if message["role"] == "assistant"
        and message.get("weight", 1) != 0
        and (_text(message.get("content")).strip() or _calls(message))
    ]


def _calls(message: dict[str, Any]) -> bool:
    return bool(message.get("tool_calls") or message.get("function_call"))


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values have equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def unknown_keys(
    value: dict[str, Any], known: Collection[str], line: int, pointer: str
) -> Iterator[Finding]:
    """A warning for each key that training does not use."""
    for key in value.keys() - set(known):
        yield warning(
            "unknown_key",
            line,
            f"{pointer}/{key}",
            f"The key '{key}' is not used in training.",
            "Remove it, or check its spelling.",
        )


def _check_message(message: object, line: int, pointer: str, where: str) -> Iterator[Finding]:
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
    yield from unknown_keys(message, _MESSAGE_KEYS, line, pointer)
    yield from _check_content(message, line, pointer, where)
    yield from _check_weight(message, line, pointer, where)


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
