"""Checks of one training row, in OpenAI's chat format or its preference format.

Source: OpenAI's fine-tuning guide and API reference (chat format, `weight`, tool calls,
preferences), 2026.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from services.ingestion.domain.findings import Finding, error, has_errors, warning
from services.ingestion.domain.messages import (
    ROW_KEYS,
    canonical,
    check_conversation,
    trained_turns,
    unknown_keys,
)
from services.ingestion.domain.preferences import PREFERENCE, check_preference
from services.ingestion.domain.tools import check_tools
from shared.rendering.preferences import is_preference

Format = Literal["chat", "preference"]

_FORMS = {"chat": '{"messages": [...]}', "preference": PREFERENCE}


def format_of(row: dict[str, Any]) -> Format:
    """Which format a row is meant to have, be it right or not."""
    return "preference" if is_preference(row) else "chat"


def check_row(row: dict[str, Any], line: int, wanted: Format | None = None) -> list[Finding]:
    """
    Everything wrong with one row.

    Args:
        row: The parsed JSON object.
        line: Its line in the file, from 1.
        wanted: The format it must have; None takes either.
    """
    if wanted is not None and format_of(row) != wanted:
        return [_other_format(row, line, wanted)]
    if format_of(row) == "preference":
        return check_preference(row, line)
    messages = row.get("messages")
    if messages is None:
        return [_other_format(row, line, "chat")]
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
    pointers = [f"/messages/{index}" for index in range(len(messages))]
    found = list(unknown_keys(row, ROW_KEYS, line, ""))
    found.extend(check_conversation(messages, pointers, line))
    found.extend(check_tools(row, messages, pointers, line))
    if not has_errors(found):
        found.extend(_check_turns(messages, line))
    return found


def prompt_key(row: dict[str, Any]) -> str:
    """What a row asks: its messages up to the last assistant turn, as canonical JSON."""
    if is_preference(row):
        return _key_of(row["input"]["messages"])
    messages = row["messages"]
    last = max(
        (index for index, message in enumerate(messages) if message["role"] == "assistant"),
        default=len(messages),
    )
    return _key_of(messages[:last])


def _key_of(messages: Sequence[dict[str, Any]]) -> str:
    return canonical([(message["role"], message.get("content")) for message in messages])


def _other_format(row: dict[str, Any], line: int, wanted: Format) -> Finding:
    if "messages" in row:
        name = "chat"
    elif "prompt" in row and "completion" in row:
        name = "prompt/completion"
    elif is_preference(row):
        name = "preference"
    else:
        name = "unknown"
    method = {"chat": "supervised", "preference": "dpo"}[wanted]
    return error(
        "wrong_format",
        line,
        "",
        f"The row has the {name} format; a {method} job needs the {wanted} format in all rows.",
        f"Write {_FORMS[wanted]}.",
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
