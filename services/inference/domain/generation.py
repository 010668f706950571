"""What is asked of a model and what comes back, in no provider's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Finish = Literal["stop", "length", "tool_calls", "function_call"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """
    How tokens are chosen. Ranges are OpenAI's.

    Attributes:
        max_tokens: Most tokens generated; None is up to the end of the context.
        seed: Makes the choice repeatable; None is random.
        stop: The answer ends before the first of these.
        logit_bias: (token id, bias) pairs.
        top_logprobs: Alternatives reported per token; None reports no probabilities.
        json_schema: JSON Schema the answer has to fulfil.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    top_logprobs: int | None = None
    json_schema: Mapping[str, Any] | None = None

    def for_choice(self, index: int) -> Sampling:
        """The same for choice *index*; with a seed, every choice has a seed of its own."""
        return self if self.seed is None else replace(self, seed=(self.seed + index) % 2**32)


@dataclass(frozen=True, slots=True)
class Alternative:
    """A token that could stand at a position; the logarithm is natural."""

    text: str
    raw: tuple[int, ...]
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenProbability:
    """A token with its probability; `logprob` is None where nothing came before it."""

    text: str
    raw: tuple[int, ...]
    logprob: float | None
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True, slots=True)
class End:
    """How a generation ended and what it cost, in tokens."""

    finish: Finish
    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of an answer; the last piece has an end, and no other has."""

    text: str
    probabilities: tuple[TokenProbability, ...] = ()
    end: End | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """A whole answer."""

    text: str
    probabilities: tuple[TokenProbability, ...]
    end: End


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of all choices of a request; a prompt counts once for all its choices."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int

    @classmethod
    def of(cls, ends: Mapping[int, End], choices_per_prompt: int) -> Usage:
        prompts = [end for index, end in ends.items() if index % choices_per_prompt == 0]
        return cls(
            input_tokens=sum(end.input_tokens for end in prompts),
            output_tokens=sum(end.output_tokens for end in ends.values()),
            cached_tokens=sum(end.cached_tokens for end in prompts),
        )


def join(pieces: list[Piece]) -> Choice:
    """A whole answer from all its pieces, in order; the last one has the end."""
    end = pieces[-1].end
    assert end is not None
    return Choice(
        text="".join(piece.text for piece in pieces),
        probabilities=tuple(each for piece in pieces for each in piece.probabilities),
        end=end,
    )
