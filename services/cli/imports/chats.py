"""Rows of training, validation and prompt files: what is asked, and what should be answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from services.cli.connection import Json
from services.cli.errors import CommandFailed
from shared.errors import Invalid
from shared.jsonl import Line, parse_object, read_lines
from shared.rendering.chat import text_of
from shared.rendering.preferences import conversations_of, is_preference

# A prompt as another service takes it; `weight` belongs to training alone.
_OF_TRAINING = "weight"
_OF_TOOLS = ("tools", "functions")


@dataclass(frozen=True, slots=True)
class Chat:
    """
    One row.

    Attributes:
        row: As the file has it.
        messages: What is asked, in OpenAI's chat format.
        answer: The assistant's message that is expected; None where it says nothing.
        tools: The row's declarations of tools, `tools` or the older `functions`.
    """

    row: Json
    messages: tuple[Json, ...]
    answer: Json | None
    tools: Json

    @property
    def key(self) -> str:
        """Two rows that ask the same have the same key."""
        return json.dumps([self.messages, self.tools], sort_keys=True, ensure_ascii=False)

    @property
    def is_preference(self) -> bool:
        return is_preference(self.row)


def load_bytes(path: Path) -> bytes:
    """
    Raises:
        CommandFailed: The file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandFailed(f"{path} cannot be read: {error.strerror}.") from error


def read_rows(content: bytes, name: str) -> list[tuple[Line, Json]]:
    """
    The JSON objects of a file with their lines.

    Args:
        content: JSON lines.
        name: Of the file, for the message.

    Raises:
        CommandFailed: A line is broken, or there is none; the message names it.
    """
    try:
        rows = [(line, parse_object(line)) for line in read_lines([content])]
    except Invalid as error:
        raise CommandFailed(f"{name}: {error.message}") from error
    if not rows:
        raise CommandFailed(f"{name} has no rows.")
    return rows


def read_chats(content: bytes, name: str) -> list[Chat]:
    """
    The chats of a file of training or validation, each with an answer.

    Args:
        content: JSON lines.
        name: Of the file, for the message.

    Raises:
        CommandFailed: A line is no such chat; the message names it and says what to write.
    """
    return _read(content, name, chat_of, "chat with an answer")


def read_prompts(content: bytes, name: str) -> list[Chat]:
    """
    As `read_chats`, but a row whose last message is not the assistant's is all question.

    Raises:
        CommandFailed: A line is no chat.
    """
    return _read(content, name, prompt_of, "chat")


def chat_of(row: Json) -> Chat | None:
    """
    A row of chats or of preferences; else None.

    The expected answer is the last message of the assistant, or the preferred one; what follows it
    is not asked.
    """
    messages, declaring = row.get("messages"), row
    if is_preference(row):
        try:
            messages = conversations_of(row)[0]
        except Invalid:
            return None
        declaring = row["input"]
    if not _are_messages(messages):
        return None
    at = max((n for n, each in enumerate(messages) if each["role"] == "assistant"), default=0)
    return _chat(row, messages[:at], messages[at], declaring) if at else None


def question_of(row: Json) -> Chat | None:
    """A row, or the body of a request, of which every message is asked; else None."""
    messages = row.get("messages")
    return _chat(row, messages, None, row) if _are_messages(messages) else None


def prompt_of(row: Json) -> Chat | None:
    """A chat if it ends with an answer, else a question."""
    question = question_of(row)
    if question is not None and question.messages[-1]["role"] != "assistant":
        return question
    return chat_of(row)


def write_rows(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as a file of JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _read(content: bytes, name: str, read: Callable[[Json], Chat | None], what: str) -> list[Chat]:
    chats = []
    for line, row in read_rows(content, name):
        chat = read(row)
        if chat is None:
            raise CommandFailed(
                f"{name}, line {line.number} is no {what}. Write "
                '{"messages": [{"role": "user", ...}, {"role": "assistant", ...}]}, or a '
                "preference with 'input', 'preferred_output' and 'non_preferred_output'."
            )
        chats.append(chat)
    return chats


def _are_messages(messages: object) -> TypeGuard[list[Json]]:
    return (
        isinstance(messages, list)
        and bool(messages)
        and all(isinstance(each, dict) and isinstance(each.get("role"), str) for each in messages)
    )


def _chat(row: Json, asked: Sequence[Json], answer: Json | None, declaring: Json) -> Chat:
    tools = {name: declaring[name] for name in _OF_TOOLS if declaring.get(name)}
    known = _untrained(answer) if answer and _says_something(answer) else None
    return Chat(row, tuple(map(_untrained, asked)), known, tools)


def _says_something(message: Json) -> bool:
    try:
        return bool(text_of(message).strip())
    except Invalid:
        return False


def _untrained(message: Json) -> Json:
    return {name: value for name, value in message.items() if name != _OF_TRAINING}
