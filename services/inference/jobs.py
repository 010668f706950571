"""Requests of either door, turned into what the core works on."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from services.inference.domain.generation import Sampling
from services.inference.domain.routing import choose_unit
from services.inference.domain.shapes import ChatShape, CompletionShape, Shape, ToolShape
from services.inference.domain.tools import Tools
from services.inference.records import Door
from services.inference.schemas import ChatRequest, CompletionRequest
from shared.errors import Invalid
from shared.ids import Project, uuid7
from shared.metadata import check_metadata
from shared.rendering.bases import BaseModel
from shared.rendering.chat import render
from shared.rendering.tokenizer import encode
from shared.rendering.tools import OPEN


@dataclass(frozen=True, slots=True)
class Origin:
    """
    Where a request comes from.

    Attributes:
        project: Whose request it is.
        door: Which door it came through.
        unit_header: Value of `x-user-id`.
    """

    project: Project
    door: Door
    unit_header: str | None = None


class Prompting(Protocol):
    """Writes the prompts of a request for a base."""

    def tokens(self, base: BaseModel) -> list[list[int]]:
        """Token ids, one list per prompt; raises Invalid for what cannot be written."""
        ...

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What was asked, as messages: the content that is kept where policy allows."""
        ...


@dataclass(frozen=True, slots=True)
class Keeping:
    """The caller wants the answer stored, with this attached to it."""

    metadata: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class Job:
    """
    One request.

    Attributes:
        request: UUIDv7; the time of the record.
        unit: What stays on one side of a canary.
        choices: Answers per prompt.
        echoes: Whether each answer begins with its prompt.
        keeping: None where nobody asked for the answer to be stored.
    """

    request: uuid.UUID
    origin: Origin
    model: str
    unit: str
    prompting: Prompting
    sampling: Sampling
    shape: Shape
    choices: int = 1
    echoes: bool = False
    is_streamed: bool = False
    wants_usage: bool = False
    keeping: Keeping | None = None


@dataclass(frozen=True, slots=True)
class ChatPrompting:
    """A chat, written by the one render function."""

    messages: list[dict[str, Any]]
    tools: Tools | None = None

    def tokens(self, base: BaseModel) -> list[list[int]]:
        functions = self.tools.functions if self.tools else ()
        chat = render(base, self.messages, add_generation_prompt=True, functions=functions)
        if self.tools is None or not self.tools.is_forced:
            return [chat.token_ids]
        return [[*chat.token_ids, *encode(base, OPEN)]]


@dataclass(frozen=True, slots=True)
class TextPrompting:
    """Plain texts and token ids."""

    prompts: Sequence[str | list[int]]

    def tokens(self, base: BaseModel) -> list[list[int]]:
        return [as_tokens(base, prompt, param="prompt") for prompt in self.prompts]

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [{"role": "user", "content": prompt} for prompt in self.prompts]


def as_tokens(base: BaseModel, text: str | list[int], *, param: str) -> list[int]:
    """
    Token ids of a text or of given ids.

    Raises:
        Invalid: There is not one token.
    """
    tokens = encode(base, text) if isinstance(text, str) else text
    if not tokens:
        raise Invalid(f"{param} is empty; give some text.", code="empty_prompt", param=param)
    return tokens


def chat_job(body: ChatRequest, origin: Origin) -> Job:
    """
    Raises:
        Invalid: The request names something this server cannot do.
    """
    check_metadata(body.metadata)
    tools = body.offered_tools
    shape = ChatShape() if tools is None else ToolShape(tools)
    keeping = _keeping(body) if body.store else None
    return _job(body, origin, ChatPrompting(body.messages, tools), shape, keeping=keeping)


def completion_job(body: CompletionRequest, origin: Origin) -> Job:
    """
    Raises:
        Invalid: The request names something this server cannot do.
    """
    prompting = TextPrompting(body.prompts)
    return _job(body, origin, prompting, CompletionShape(), echoes=bool(body.echo))


def _keeping(body: ChatRequest) -> Keeping:
    try:
        json.dumps(body.messages, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise Invalid(
            "messages: half a surrogate pair and NaN cannot be stored; leave them out, or 'store'.",
            code="invalid_value",
            param="messages",
        ) from error
    return Keeping(body.metadata)


def _job(
    body: ChatRequest | CompletionRequest,
    origin: Origin,
    prompting: Prompting,
    shape: Shape,
    *,
    echoes: bool = False,
    keeping: Keeping | None = None,
) -> Job:
    request = uuid7()
    return Job(
        request=request,
        origin=origin,
        model=body.model,
        unit=choose_unit(body.safety_identifier, body.user, origin.unit_header, request.hex),
        prompting=prompting,
        sampling=body.sampling(),
        shape=shape,
        choices=body.n or 1,
        echoes=echoes,
        is_streamed=bool(body.stream),
        wants_usage=body.wants_usage,
        keeping=keeping,
    )
