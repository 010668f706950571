"""Answers in OpenAI's shapes: whole bodies, chunks of a stream, server-sent events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from services.inference.domain.generation import (
    Alternative,
    Choice,
    Piece,
    TokenProbability,
    Usage,
)

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

    def chunk(self, heading: Heading, index: int, piece: Piece) -> Body:
        """A piece of choice *index*."""
        ...

    def usage_chunk(self, heading: Heading, usage: Usage) -> Body:
        """The chunk after all choices that says what they cost."""
        ...


class ChatShape:
    """`POST /v1/chat/completions`."""

    id_prefix = "chatcmpl-"

    def body(self, heading: Heading, choices: Sequence[Choice], usage: Usage) -> Body:
        return _headed(heading, "chat.completion") | {
            "choices": [
                {
                    "index": index,
                    "message": {"role": "assistant", "content": choice.text, "refusal": None},
                    "logprobs": _chat_logprobs(choice.probabilities),
                    "finish_reason": choice.end.finish,
                }
                for index, choice in enumerate(choices)
            ],
            "usage": _usage(usage),
        }

    def opening(self, heading: Heading, index: int) -> Body | None:
        delta = {"role": "assistant", "content": "", "refusal": None}
        return self._chunk(heading, index, delta, None, None)

    def chunk(self, heading: Heading, index: int, piece: Piece) -> Body:
        delta = {"content": piece.text} if piece.text or piece.end is None else {}
        logprobs = _chat_logprobs(piece.probabilities)
        return self._chunk(heading, index, delta, logprobs, _finish(piece))

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

    def chunk(self, heading: Heading, index: int, piece: Piece) -> Body:
        offset = self._offsets.get(index, 0)
        self._offsets[index] = offset + len(piece.text)
        choice = {
            "index": index,
            "text": piece.text,
            "logprobs": _completion_logprobs(piece.probabilities, offset),
            "finish_reason": _finish(piece),
        }
        return _headed(heading, "text_completion") | {"choices": [choice]}

    def usage_chunk(self, heading: Heading, usage: Usage) -> Body:
        return _headed(heading, "text_completion") | {"choices": [], "usage": _usage(usage)}


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
