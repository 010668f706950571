"""What the parent and the scoring process say to each other: one JSON object a line."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ScoredSequence(_Message):
    token_ids: list[int]
    scored: list[bool]


class Score(_Message):
    """Per scored token: its log-probability, whether it is the likeliest, the likeliest ones."""

    logprobs: list[float]
    greedy: list[bool]
    top_logprobs: list[list[tuple[int, float]]]


class Question(_Message):
    adapter: str | None
    sequences: list[ScoredSequence]
    top_logprobs: int


class Refusal(_Message):
    message: str
    code: str
    param: str | None


class Answer(_Message):
    """Scores, or the reason why there are none."""

    scores: list[Score] = []
    refusal: Refusal | None = None
