"""
Answers that were logged while the old model could be asked.

A row is one of these; the first that fits counts:

* `{"messages": [...], "recorded": {"model", "answer", ...}}`: as evaluations here take it;
* `{"request": {...}, "response": {...}}`: bodies of a chat completion, and what came back;
* `{"custom_id", "response": {"status_code", "body"}}`: a line of a batch's output, whose request
  stands in the batch's input under the same `custom_id`;
* `{"messages": [...], "choices": [...], ...}`: a stored completion with its messages;
* `{"messages": [..., {"role": "assistant", ...}]}`: a chat that ends with the model's answer.

`latency_ms` may stand beside each of them. A request that failed, or was answered with
nothing, is a case without an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from annotated_types import Len
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.cli.connection import Json
from services.cli.errors import CommandFailed
from services.cli.imports.answers import (
    LONGEST_ANSWER,
    LONGEST_ERROR,
    MOST_TOKENS,
    Completion,
    failure,
    golden_of,
)
from services.cli.imports.chats import Chat, prompt_of, question_of, read_rows
from services.cli.imports.journal import Golden
from shared.errors import Invalid

_LONGEST_MODEL = 256
_FORMS = (
    '{"messages": [...], "recorded": {...}}, {"request": {...}, "response": {...}}, a line of a '
    'batch\'s output with --batch-input, {"messages": [...], "choices": [...]}, or '
    '{"messages": [..., {"role": "assistant", ...}]}'
)


@dataclass(frozen=True, slots=True)
class Logged:
    """
    Attributes:
        case: What was asked; the row's own expected answer, if it has one beside the recorded.
        golden: What was answered.
        model: Who answered, if the row says it.
    """

    case: Chat
    golden: Golden
    model: str | None


class _Batched(BaseModel):
    status_code: int
    body: Any = None


class _Recorded(BaseModel):
    """As the API of evaluations takes it."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Len(1, _LONGEST_MODEL)]
    answer: Annotated[str, Len(0, LONGEST_ANSWER)] | None
    error: Annotated[str, Len(1, LONGEST_ERROR)] | None = None
    latency_ms: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    input_tokens: int | None = Field(default=None, ge=0, le=MOST_TOKENS)
    output_tokens: int | None = Field(default=None, ge=0, le=MOST_TOKENS)


class _Latency(BaseModel):
    latency_ms: float | None = Field(default=None, ge=0, allow_inf_nan=False)


def read_logged(content: bytes, name: str, requests: Mapping[str, Json]) -> list[Logged]:
    """
    The logged answers of a file.

    Args:
        content: JSON lines.
        name: Of the file, for messages.
        requests: Bodies of a batch's requests by `custom_id`; empty without a batch.

    Raises:
        CommandFailed: A row is none of the shapes, or answers of two models are mixed.
    """
    found = []
    for line, row in read_rows(content, name):
        try:
            found.append(_logged(row, requests))
        except (ValidationError, Invalid, ValueError) as error:
            raise CommandFailed(
                f"{name}, line {line.number}: {_reason(error)}. A row is one of: {_FORMS}."
            ) from error
    models = sorted({logged.model for logged in found if logged.model})
    if len(models) > 1:
        raise CommandFailed(
            f"{name} has answers of {len(models)} models: {', '.join(models[:5])}. Write one file "
            "for each."
        )
    return found


def read_batch_input(content: bytes, name: str) -> dict[str, Json]:
    """
    Bodies of a batch's requests by `custom_id`.

    Raises:
        CommandFailed: A line is no request of a batch.
    """
    bodies = {}
    for line, row in read_rows(content, name):
        key, body = row.get("custom_id"), row.get("body")
        if not isinstance(key, str) or not isinstance(body, dict):
            raise CommandFailed(
                f"{name}, line {line.number} is no request of a batch: it needs 'custom_id' and "
                "'body'."
            )
        bodies[key] = body
    return bodies


def _logged(row: Json, requests: Mapping[str, Json]) -> Logged:
    latency = _Latency.model_validate(row).latency_ms
    if "recorded" in row:
        return _recorded(row)
    if "custom_id" in row:
        return _batched(row, requests, latency)
    if "request" in row:
        if "response" not in row:
            raise ValueError("there is no 'response' beside the 'request'")
        asked = _asked(row["request"])
        return _completed(asked, row["response"], latency, _model(row["request"].get("model")))
    if "choices" in row:
        return _completed(_asked(row), row, latency, None)
    return _ended(row, latency)


def _ended(row: Json, latency: float | None) -> Logged:
    """A chat whose last message was answered; an empty one is a failure of the model's."""
    asked = _asked(row)
    *before, last = asked.messages
    if last["role"] != "assistant" or not before:
        raise ValueError("there are no messages that end with an answer of the assistant")
    golden = golden_of(Completion.model_validate({"choices": [{"message": last}]}), latency)
    return Logged(replace(asked, messages=tuple(before)), golden, _model(row.get("model")))


def _recorded(row: Json) -> Logged:
    said = _Recorded.model_validate(row["recorded"])
    golden = Golden.model_validate(said.model_dump(exclude={"model"}))
    if (golden.answer is None) == (golden.error is None):
        raise ValueError("'recorded' has either an answer, or null and an error")
    return Logged(prompt_of(row) or _asked(row), golden, said.model)


def _batched(row: Json, requests: Mapping[str, Json], latency: float | None) -> Logged:
    request = requests.get(str(row["custom_id"]))
    if request is None:
        raise ValueError(f"the batch's input has no '{row['custom_id']}'; give it as --batch-input")
    asked = _asked(request)
    model = _model(request.get("model"))
    if row.get("response") is None:
        return Logged(asked, failure(f"the batch answered with {row.get('error')}"), model)
    answer = _Batched.model_validate(row["response"])
    if answer.status_code != 200:
        return Logged(asked, failure(f"the batch answered with {answer.status_code}"), model)
    return _completed(asked, answer.body, latency, model)


def _completed(asked: Chat, body: object, latency: float | None, model: str | None) -> Logged:
    if body is None:
        return Logged(asked, failure("no answer was logged"), model)
    if isinstance(body, dict) and body.get("error"):
        return Logged(asked, failure(f"the service answered with {body['error']}"), model)
    completion = Completion.model_validate(body)
    return Logged(asked, golden_of(completion, latency), _model(completion.model) or model)


def _asked(row: object) -> Chat:
    question = question_of(row) if isinstance(row, dict) else None
    if question is None:
        raise ValueError("there are no messages with roles")
    return question


def _model(value: object) -> str | None:
    """
    Raises:
        ValueError: It is longer than the API of evaluations takes.
    """
    if isinstance(value, str) and len(value) > _LONGEST_MODEL:
        raise ValueError(f"'model' has more than {_LONGEST_MODEL} characters")
    return value if isinstance(value, str) else None


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the row'}: {first['msg']}"
    return error.message.rstrip(".") if isinstance(error, Invalid) else str(error)
