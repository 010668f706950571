"""What answers of another service cost: expected, at worst, and spent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from services.cli.imports.chats import Chat

_MILLION = Decimal(1_000_000)
# A tokenizer of bytes never makes more tokens than bytes; around a message, a tool and the whole
# the service may add a few of its own (OpenAI's cookbook counts 3 a message and 3 for the answer).
_EXTRA_PER_MESSAGE = 8
_EXTRA = 32
# English text and JSON have about four bytes a token (OpenAI's rule of thumb).
_BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens that are read and written."""

    input: int
    output: int

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.input + other.input, self.output + other.output)


@dataclass(frozen=True, slots=True)
class Prices:
    """Money for a million tokens, in the currency of the service."""

    input: Decimal
    output: Decimal

    def of(self, tokens: Tokens) -> Decimal:
        return (tokens.input * self.input + tokens.output * self.output) / _MILLION


def at_worst(case: Chat, *, max_answer_tokens: int) -> Tokens:
    """What one answer cannot exceed, whatever the tokenizer."""
    extra = _EXTRA + _EXTRA_PER_MESSAGE * len(case.messages)
    return Tokens(_written_bytes(case) + extra, max_answer_tokens)


def expected(cases: Sequence[Chat], *, max_answer_tokens: int) -> Tokens:
    """About what the cases will take, from their length in bytes; no promise."""
    asked = sum(_written_bytes(case) // _BYTES_PER_TOKEN + _EXTRA_PER_MESSAGE for case in cases)
    answered = sum(_answer_tokens(case, max_answer_tokens) for case in cases)
    return Tokens(asked, answered)


def _answer_tokens(case: Chat, most: int) -> int:
    if case.answer is None:
        return most
    return min(most, len(json.dumps(case.answer, ensure_ascii=False).encode()) // _BYTES_PER_TOKEN)


def _written_bytes(case: Chat) -> int:
    # As escaped ASCII JSON a text is never shorter than it is.
    return len(json.dumps([case.messages, case.tools]).encode())
