"""Held-out rows: read from a file, and laid out as tokens for a base."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.evaluation.recorded import RecordedAnswer, read_recorded
from shared.errors import Invalid
from shared.jsonl import parse_object, read_lines
from shared.rendering.bases import BaseModel
from shared.rendering.chat import render
from shared.rendering.tokenizer import decode, encode
from shared.rendering.tools import functions_of


@dataclass(frozen=True, slots=True)
class Example:
    """
    Attributes:
        line: Its line in the file, from 1.
        messages: A chat that ends with the expected answer of the assistant.
        functions: The assistant may call.
        recorded: What an outside model answered, if that was asked for.
    """

    line: int
    messages: list[dict[str, Any]]
    functions: Sequence[Mapping[str, Any]] = ()
    recorded: RecordedAnswer | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """
    Attributes:
        prompt: Tokens of the chat up to the open turn of the assistant.
        target: Tokens of the expected answer, and the one that ends the turn.
        expected: The expected answer as text.
        longest: Number of tokens of the expected or the recorded answer, whichever has more.
    """

    prompt: list[int]
    target: list[int]
    expected: str
    longest: int


def read_examples(chunks: Iterable[bytes], *, recorded: bool = False) -> Iterator[Example]:
    """
    The examples of a file in OpenAI's chat format, one by one.

    Args:
        chunks: Of the file.
        recorded: Every row must carry an answer of an outside model, too.

    Raises:
        Invalid: A line is broken; the message names it and says what to do.
    """
    try:
        for line in read_lines(chunks):
            row = parse_object(line)
            messages = _messages(row, line.number)
            said = read_recorded(row, line.number) if recorded else None
            yield Example(line.number, messages, functions_of(row), said)
    except Invalid as error:
        raise _refused(error.message) from error


def check_examples(
    base: BaseModel, examples: Iterable[Example], *, max_cases: int
) -> list[tuple[Example, Layout]]:
    """
    All examples, laid out.

    Raises:
        Invalid: There are none or too many, or one cannot be written for *base* or is too long.
    """
    found: list[tuple[Example, Layout]] = []
    for example in examples:
        if len(found) == max_cases:
            raise Invalid(
                f"The file has more than {max_cases} rows; evaluate on a sample of them.",
                code="too_many_cases",
                param="file_id",
            )
        found.append((example, _checked_layout(base, example)))
    if not found:
        raise Invalid(
            "The file has no rows; give at least one held-out example.",
            code="too_few_cases",
            param="file_id",
        )
    return found


def recorded_model(examples: Sequence[Example]) -> str:
    """
    Whose answers were recorded.

    Raises:
        Invalid: Not all are of one model.
    """
    models = {example.line: example.recorded.model for example in examples if example.recorded}
    first = next(iter(models.values()))
    for line, model in models.items():
        if model != first:
            raise _refused(
                f"Line {line}: an answer of '{model}', but the first row has one of '{first}'; "
                "write one file for each model."
            )
    return first


def lay_out(base: BaseModel, example: Example) -> Layout:
    """
    The tokens of one example.

    Raises:
        Invalid: A message cannot be written.
    """
    prompt = render(
        base, example.messages[:-1], add_generation_prompt=True, functions=example.functions
    ).token_ids
    # The expected answer counts here, whether or not training was to learn it.
    whole = render(
        base,
        [*example.messages[:-1], {**example.messages[-1], "weight": 1}],
        add_generation_prompt=False,
        functions=example.functions,
    )
    target = [
        token
        for token, is_trained in zip(
            whole.token_ids[len(prompt) :], whole.trained[len(prompt) :], strict=True
        )
        if is_trained
    ]
    return Layout(
        prompt=prompt,
        target=target,
        expected=decode(base, target[:-1]),
        longest=max(len(target), _recorded_tokens(base, example)),
    )


def _recorded_tokens(base: BaseModel, example: Example) -> int:
    return len(encode(base, example.recorded.answer or "")) if example.recorded else 0


def _checked_layout(base: BaseModel, example: Example) -> Layout:
    try:
        layout = lay_out(base, example)
    except Invalid as error:
        raise _refused(f"Line {example.line}: {error.message}") from error
    length = len(layout.prompt) + len(layout.target)
    if length > base.context_tokens:
        raise _refused(
            f"Line {example.line}: {length} tokens, but {base.name} reads at most "
            f"{base.context_tokens}; shorten the row."
        )
    if not layout.expected.strip():
        raise _refused(
            f"Line {example.line}: the last assistant message is empty; write the expected answer."
        )
    return layout


def _messages(row: Mapping[str, Any], number: int) -> list[dict[str, Any]]:
    messages = row.get("messages")
    if not isinstance(messages, list) or not all(map(_is_message, messages)):
        raise _refused(
            f'Line {number}: no chat; write {{"messages": [{{"role": ..., "content": ...}}]}}.'
        )
    last = _last_answer(messages)
    if last < 1:
        raise _refused(
            f"Line {number}: no question with an answer; end the messages with one of role "
            "'assistant', which is the expected answer."
        )
    return messages[: last + 1]


def _is_message(message: object) -> bool:
    return isinstance(message, dict) and isinstance(message.get("tool_calls") or [], list)


def _last_answer(messages: Sequence[dict[str, Any]]) -> int:
    return max(
        (index for index, message in enumerate(messages) if message.get("role") == "assistant"),
        default=-1,
    )


def _refused(message: str) -> Invalid:
    return Invalid(message, code="invalid_evaluation_file", param="file_id")
