"""Rows of preferences: one question, and two answers to it of which the first is preferred.

Source: OpenAI's preference fine-tuning guide (`input`, `preferred_output`,
`non_preferred_output`); older files say `..._completion`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from shared.errors import Invalid

CHOSEN = ("preferred_output", "preferred_completion")
REJECTED = ("non_preferred_output", "non_preferred_completion")

Conversation = list[Mapping[str, Any]]


def is_preference(row: Mapping[str, Any]) -> bool:
    """Whether a row is meant as one of preferences, be it right or not."""
    return "input" in row or any(name in row for name in (*CHOSEN, *REJECTED))


def answer_of(row: Mapping[str, Any], names: tuple[str, str]) -> object:
    """Messages of an answer, under its newer or its older name."""
    newer, older = names
    return row.get(newer, row.get(older))


def conversations_of(row: Mapping[str, Any]) -> tuple[Conversation, Conversation]:
    """
    The question with the chosen answer, and with the rejected one.

    Only the answers are learned from: what an assistant said in the question has no weight.

    Raises:
        Invalid: It is no row of preferences.
    """
    asked = row.get("input")
    question = asked.get("messages") if isinstance(asked, Mapping) else None
    chosen, rejected = (answer_of(row, names) for names in (CHOSEN, REJECTED))
    if not (_has_entries(question) and _has_entries(chosen) and _has_entries(rejected)):
        raise Invalid(
            "is no preference: it needs input.messages, preferred_output and non_preferred_output",
            code="no_preference",
        )
    begun = _unlearned(question)
    return [*begun, *chosen], [*begun, *rejected]


def _has_entries(messages: object) -> TypeGuard[list[Any]]:
    return isinstance(messages, list) and bool(messages)


def _unlearned(messages: list[Any]) -> Conversation:
    return [
        {**message, "weight": 0}
        if isinstance(message, Mapping) and message.get("role") == "assistant"
        else message
        for message in messages
    ]
