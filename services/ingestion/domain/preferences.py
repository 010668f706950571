"""Checks of one row of preferences: a question, and two answers of which the first is preferred.

Source: OpenAI's preference fine-tuning guide, 2026.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from services.ingestion.domain.findings import Finding, error, has_errors
from services.ingestion.domain.messages import (
    ROW_KEYS,
    canonical,
    check_conversation,
    trained_turns,
    unknown_keys,
)
from services.ingestion.domain.tools import check_tools
from shared.rendering.preferences import CHOSEN, REJECTED, answer_of

PREFERENCE = (
    '{"input": {"messages": [...]}, "preferred_output": [...], "non_preferred_output": [...]}'
)


def check_preference(row: dict[str, Any], line: int) -> list[Finding]:
    """
    Everything wrong with one row.

    Args:
        row: The parsed JSON object.
        line: Its line in the file, from 1.
    """
    asked = row.get("input")
    question = asked.get("messages") if isinstance(asked, dict) else None
    if not isinstance(asked, dict) or not isinstance(question, list) or not question:
        said = "'input' has no list 'messages' with entries."
        return [error("input_missing", line, "/input/messages", said, f"Write {PREFERENCE}.")]
    found = list(unknown_keys(row, {"input", *CHOSEN, *REJECTED}, line, ""))
    found.extend(unknown_keys(asked, ROW_KEYS, line, "/input"))
    pointers = [f"/input/messages/{index}" for index in range(len(question))]
    found.extend(check_conversation(question, pointers, line))
    for names in (CHOSEN, REJECTED):
        found.extend(_check_answer(row, names, line))
    if has_errors(found):
        return found
    chosen, rejected = (answer_of(row, names) for names in (CHOSEN, REJECTED))
    assert isinstance(chosen, list)  # just checked
    assert isinstance(rejected, list)  # as well
    found.extend(check_tools(asked, [*question, *chosen], [*pointers, "/preferred_output/0"], line))
    found.extend(check_tools(asked, rejected, ["/non_preferred_output/0"], line))
    if _wording(chosen) == _wording(rejected):
        found.append(
            error(
                "preference_identical",
                line,
                "/preferred_output",
                "Both answers say the same.",
                "Remove the row; there is nothing to prefer.",
            )
        )
    return found


def _check_answer(row: dict[str, Any], names: tuple[str, str], line: int) -> Iterator[Finding]:
    name = names[1] if names[1] in row else names[0]
    answer = answer_of(row, names)
    if not isinstance(answer, list) or len(answer) != 1:
        said = f"'{name}' is no list with one message."
        yield error("answer_missing", line, f"/{name}", said, "Write one assistant message there.")
        return
    found = list(check_conversation(answer, [f"/{name}/0"], line))
    yield from found
    if not has_errors(found) and not trained_turns(answer):
        yield error(
            "answer_empty",
            line,
            f"/{name}/0",
            f"'{name}' is no assistant message with text.",
            "Write what the assistant says.",
        )


def _wording(answer: object) -> str:
    """What an answer says, whatever the spaces between its words."""
    return " ".join(canonical(answer).split())
