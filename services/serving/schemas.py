"""Bodies of the parent's HTTP."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Le, Len
from pydantic import BaseModel, ConfigDict, model_validator

from services.serving.domain import State
from services.serving.scoring.messages import Score

TokenId = Annotated[int, Ge(0)]
# One request may hold a whole evaluation suite; its work is bounded by the score time limit.
_MAX_SEQUENCES = 2048
_MAX_SEQUENCE_TOKENS = 8192


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LoadRequest(_Body):
    """`pinned` left out keeps what it is, and is false for a model that was not resident."""

    model: Annotated[str, Len(1, 256)]
    base: Annotated[str, Len(1, 256)]
    adapter: Annotated[str, Len(1, 4096)] | None = None
    pinned: bool | None = None


class ModelRecord(_Body):
    """
    Attributes:
        url: Where the model answers llama.cpp's routes; append them to it. It has a path.
        running: Requests in slots and queue at the last probe.
        context_tokens: Longest prompt plus answer.
    """

    object: Literal["model"] = "model"
    model: str
    url: str
    pid: int | None
    base: str
    adapter: str | None
    pinned: bool
    state: State
    restarts: int
    running: int
    slots: int
    context_tokens: int


class ModelList(_Body):
    object: Literal["list"] = "list"
    data: list[ModelRecord]


class Unloaded(_Body):
    model: str
    deleted: Literal[True] = True


class Health(_Body):
    status: Literal["ok"] = "ok"
    models: list[str]


class ScoredTokens(_Body):
    """`scored[i]` asks for the probability of token i after all tokens before it."""

    token_ids: Annotated[list[TokenId], Len(1, _MAX_SEQUENCE_TOKENS)]
    scored: Annotated[list[bool], Len(1, _MAX_SEQUENCE_TOKENS)]

    @model_validator(mode="after")
    def _positions_have_a_past(self) -> ScoredTokens:
        if len(self.token_ids) != len(self.scored):
            raise ValueError("token_ids and scored must have the same length")
        if self.scored[0]:
            raise ValueError("scored[0] must be false: nothing comes before the first token")
        return self


class ScoreRequest(_Body):
    """`adapter` is a folder as PEFT saves it; `top_logprobs` asks for the likeliest tokens too."""

    base: Annotated[str, Len(1, 256)]
    adapter: Annotated[str, Len(1, 4096)] | None = None
    sequences: Annotated[list[ScoredTokens], Len(1, _MAX_SEQUENCES)]
    top_logprobs: Annotated[int, Ge(0), Le(20)] = 0


class TopLogprob(_Body):
    token_id: int
    logprob: float


class SequenceScore(_Body):
    """
    One entry per scored position, in order.

    Attributes:
        logprobs: Natural logarithms of the tokens' probabilities, at temperature 1.
        greedy: Whether the token is the most likely one there.
        top_logprobs: The likeliest tokens there, best first; empty unless asked for.
    """

    logprobs: list[float]
    greedy: list[bool]
    top_logprobs: list[list[TopLogprob]]

    @classmethod
    def of(cls, score: Score) -> SequenceScore:
        return cls(
            logprobs=score.logprobs,
            greedy=score.greedy,
            top_logprobs=[
                [TopLogprob(token_id=token_id, logprob=logprob) for token_id, logprob in best]
                for best in score.top_logprobs
            ],
        )


class ScoreResponse(_Body):
    sequences: list[SequenceScore]


class EmbedRequest(_Body):
    base: Annotated[str, Len(1, 256)]
    input: Annotated[list[Annotated[list[TokenId], Len(1)]], Len(1, _MAX_SEQUENCES)]


class EmbedResponse(_Body):
    embeddings: list[list[float]]
