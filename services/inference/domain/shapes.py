"""Answers in OpenAI's shapes: whole bodies, chunks of a stream, server-sent events."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from services.inference.domain.generation import (
    Alternative,
    Choice,
    Finish,
    Piece,
    TokenProbability,
    Usage,
    join,
)
from services.inference.domain.tools import Tools
from shared.ids import random_base62
from shared.rendering.tools import OPEN, Call, read_calls

_CALL_CHARACTERS = 24

Body = dict[str, Any]
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Heading:
    """What all chunks of an answer share: id, second of creation, model that answers."""

    id: str
    created: int
    model: str


class Shape(Protocol):
    """How one of OpenAI's routes writes answers."""

    id_prefix: str

    def body(self, heading: Heading, choices: Sequence[Choice], usage: Usage) -> Body:
        """The whole answer."""
        ...

    def opening(self, heading: Heading, index: int) -> Body | None:
        """The chunk in front of choice *index*, if this route has one."""
        ...

    def chunks(self, heading: Heading, index: int, piece: Piece) -> Sequence[Body]:
        """What a piece of choice *index* adds; nothing yet, where more has to be known first."""
        ...

    def usage_chunk(self, heading: Heading, usage: Usage) -> Body:
        """The chunk after all choices that says what they cost."""
        ...


class ChatShape:
    """`POST /v1/chat/completions`."""

    id_prefix = "chatcmpl-"

    def body(self, heading: Heading, choices: Sequence[Choice], usage: Usage) -> Body:
        return _headed(heading, "chat.completion") | {
            "choices": [self._choice(index, choice) for index, choice in enumerate(choices)],
            "usage": _usage(usage),
        }

    def _choice(self, index: int, choice: Choice) -> Body:
        return {
            "index": index,
            "message": {"role": "assistant", "content": choice.text, "refusal": None},
            "logprobs": _chat_logprobs(choice.probabilities),
            "finish_reason": choice.end.finish,
        }

    def opening(self, heading: Heading, index: int) -> Body | None:
        delta = {"role": "assistant", "content": "", "refusal": None}
        return self._chunk(heading, index, delta, None, None)

    def chunks(self, heading: Heading, index: int, piece: Piece) -> Sequence[Body]:
        delta = {"content": piece.text} if piece.text or piece.end is None else {}
        logprobs = _chat_logprobs(piece.probabilities)
        return [self._chunk(heading, index, delta, logprobs, _finish(piece))]

    def usage_chunk(self, heading: Heading, usage: Usage) -> Body:
        head = _headed(heading, "chat.completion.chunk")
        return head | {"choices": [], "usage": _usage(usage)}

    def _chunk(
        self,
        heading: Heading,
        index: int,
        delta: Body,
        logprobs: Body | None,
        finish: str | None,
    ) -> Body:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return _headed(heading, "chat.completion.chunk") | {"choices": [choice]}


class ToolShape(ChatShape):
    """
    As `ChatShape`, where an answer may call tools.

    Whether it does is seen at its end, so a streamed answer comes in one piece.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._heard: defaultdict[int, list[Piece]] = defaultdict(list)
        # Calls get random ids; a stream and what is stored of it tell the same ones.
        self._told: dict[int, tuple[Body, Finish]] = {}

    def chunks(self, heading: Heading, index: int, piece: Piece) -> Sequence[Body]:
        self._heard[index].append(piece)
        if piece.end is None:
            return []
        choice = join(self._heard.pop(index))
        message, finish = self._tell(index, choice)
        delta = {name: value for name, value in message.items() if value is not None}
        if "tool_calls" in delta:
            delta["tool_calls"] = [
                {"index": number, **call} for number, call in enumerate(delta["tool_calls"])
            ]
        logprobs = _chat_logprobs(choice.probabilities)
        return [
            self._chunk(heading, index, delta, logprobs, None),
            self._chunk(heading, index, {}, None, finish),
        ]

    def _choice(self, index: int, choice: Choice) -> Body:
        message, finish = self._tell(index, choice)
        return super()._choice(index, choice) | {
            "message": {"role": "assistant", "refusal": None, **message},
            "finish_reason": finish,
        }

    def _tell(self, index: int, choice: Choice) -> tuple[Body, Finish]:
        if index not in self._told:
            self._told[index] = self._read(choice)
        return self._told[index]

    def _read(self, choice: Choice) -> tuple[Body, Finish]:
        """What the message says or calls, and how it ends."""
        # A forced call was opened by the prompt.
        text = f"{OPEN}{choice.text}" if self._tools.is_forced else choice.text
        content, calls = read_calls(text)
        if not calls:
            return {"content": choice.text}, choice.end.finish
        if not self._tools.is_parallel:
            calls = calls[:1]
        if self._tools.is_older:
            (call,) = calls
            told = {"name": call.name, "arguments": call.arguments}
            return {"content": content or None, "function_call": told}, "function_call"
        made = [_call(call) for call in calls]
        return {"content": content or None, "tool_calls": made}, "tool_calls"


class CompletionShape:
    """`POST /v1/completions`; remembers how far each choice is, for `text_offset`."""

    id_prefix = "cmpl-"

    def __init__(self) -> None:
        self._offsets: dict[int, int] = {}

    def body(self, heading: Heading, choices: Sequence[Choice], usage: Usage) -> Body:
        return _headed(heading, "text_completion") | {
            "choices": [
                {
                    "index": index,
                    "text": choice.text,
                    "logprobs": _completion_logprobs(choice.probabilities, 0),
                    "finish_reason": choice.end.finish,
                }
                for index, choice in enumerate(choices)
            ],
            "usage": _usage(usage),
        }

    def opening(self, _heading: Heading, _index: int) -> Body | None:
        return None

    def chunks(self, heading: Heading, index: int, piece: Piece) -> Sequence[Body]:
        offset = self._offsets.get(index, 0)
        self._offsets[index] = offset + len(piece.text)
        choice = {
            "index": index,
            "text": piece.text,
            "logprobs": _completion_logprobs(piece.probabilities, offset),
            "finish_reason": _finish(piece),
        }
        return [_headed(heading, "text_completion") | {"choices": [choice]}]

    def usage_chunk(self, heading: Heading, usage: Usage) -> Body:
        return _headed(heading, "text_completion") | {"choices": [], "usage": _usage(usage)}


def _call(call: Call) -> Body:
    return {
        "id": f"call_{random_base62(_CALL_CHARACTERS)}",
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def event(body: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def _finish(piece: Piece) -> str | None:
    return None if piece.end is None else piece.end.finish


def _headed(heading: Heading, kind: str) -> Body:
    return {
        "id": heading.id,
        "object": kind,
        "created": heading.created,
        "model": heading.model,
        "system_fingerprint": None,
    }


def _usage(usage: Usage) -> Body:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def _chat_logprobs(probabilities: Sequence[TokenProbability]) -> Body | None:
    if not probabilities:
        return None
    content = [
        _entry(each) | {"top_logprobs": [_entry(other) for other in each.alternatives]}
        for each in probabilities
    ]
    return {"content": content, "refusal": None}


def _entry(token: TokenProbability | Alternative) -> Body:
    return {"token": token.text, "bytes": list(token.raw), "logprob": token.logprob}


def _completion_logprobs(probabilities: Sequence[TokenProbability], offset: int) -> Body | None:
    if not probabilities:
        return None
    offsets = []
    for each in probabilities:
        offsets.append(offset)
        offset += len(each.text)
    return {
        "tokens": [each.text for each in probabilities],
        "token_logprobs": [each.logprob for each in probabilities],
        "top_logprobs": [
            None
            if each.logprob is None
            else {other.text: other.logprob for other in each.alternatives}
            for each in probabilities
        ],
        "text_offset": offsets,
    }
