"""Settings of evaluation."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le
from pydantic_settings import SettingsConfigDict

from shared.settings import BaseServiceSettings


class EvaluationSettings(BaseServiceSettings):
    """How much one step of an evaluation does; a step is one task of at most 15 s."""

    model_config = SettingsConfigDict(env_prefix="PERPETUNE_EVALUATION_")

    max_cases: Annotated[int, Ge(1), Le(10_000)] = 1000
    # Longest answer, whatever was expected; one that is cut is graded as it is.
    max_tokens: Annotated[int, Ge(1), Le(4096)] = 512
    cases_per_step: Annotated[int, Ge(1), Le(256)] = 24
    # Of both sides together: each model has a core of its own on two cores, and more at once leave
    # more unfinished at the deadline. One reading each on two busy cores, 24 rows, two sides:
    # 2 at once 97 s, 4 at once 99 s, 8 at once 199 s. A GPU wants more.
    answers_at_once: Annotated[int, Ge(1), Le(64)] = 4
    # Time for what a step asks of the model server. Answers that are not there by then are left
    # to the next step.
    step_seconds: Annotated[float, Ge(1), Le(13)] = 10.0
    # Tokens that are read in a step, by torch or for embeddings: seconds, even beside a training on
    # two cores.
    score_tokens_per_step: Annotated[int, Ge(64), Le(100_000)] = 1000
