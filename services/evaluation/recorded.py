"""Answers of an outside model, as the rows of a file carry them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from annotated_types import Ge, Le, Len
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.errors import Invalid

# The largest number that the database holds.
_MOST_TOKENS = (1 << 31) - 1
# Characters: several times what a base with 8,192 tokens of context could say.
_LONGEST_ANSWER = 1 << 17

Tokens = Annotated[int, Ge(0), Le(_MOST_TOKENS)]
Milliseconds = Annotated[float, Ge(0), Field(allow_inf_nan=False)]


class RecordedAnswer(BaseModel):
    """
    What the outside model once said to a row.

    Attributes:
        answer: Its words; None where it failed, and then *error* says how.
        latency_ms: From request to whole answer, if it was measured.
        input_tokens: As the outside model counted them, if it did.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    model: Annotated[str, Len(1, 256)]
    answer: Annotated[str, Len(0, _LONGEST_ANSWER)] | None
    error: Annotated[str, Len(1, 1000)] | None = None
    latency_ms: Milliseconds | None = None
    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None

    @model_validator(mode="after")
    def _has_an_answer_or_an_error(self) -> Self:
        if (self.answer is None) == (self.error is None):
            raise ValueError("give either an answer, or null and an error")
        return self


def read_recorded(row: Mapping[str, Any], line: int) -> RecordedAnswer:
    """
    The recorded answer of a row.

    Raises:
        Invalid: It has none, or a broken one; the message names its line and says what to do.
    """
    if row.get("recorded") is None:
        raise _refused(line, "no recorded answer")
    try:
        return RecordedAnswer.model_validate(row["recorded"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["recorded", *map(str, first["loc"])])
        raise _refused(line, f"'{where}' is wrong ({first['msg']})") from error


def _refused(line: int, why: str) -> Invalid:
    return Invalid(
        f'Line {line}: {why}; write "recorded": {{"model": ..., "answer": ...}}.',
        code="invalid_evaluation_file",
    )
