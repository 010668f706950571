"""A chat completion as an import keeps it, whatever a service has sent."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from services.cli.imports.journal import Golden
from shared.errors import Invalid
from shared.rendering.chat import text_of

# What the API of evaluations takes: characters of an answer and an error, and tokens.
LONGEST_ANSWER = 1 << 17
LONGEST_ERROR = 1000
MOST_TOKENS = (1 << 31) - 1
# JSON can spell them; UTF-8, or the database, cannot hold them.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def clean(text: str) -> str:
    """Text that can be written down: a replacement character for each that cannot."""
    return _UNSTORABLE.sub("\ufffd", text)


def failure(reason: str) -> Golden:
    """No answer, and why."""
    return Golden(answer=None, error=clean(reason)[:LONGEST_ERROR])


def golden_of(completion: Completion, latency_ms: float | None) -> Golden:
    """The first answer as training would write it, or why there is none."""
    choice, usage = completion.choices[0], completion.usage
    text, error = _text(choice)
    return Golden(
        answer=text,
        error=error,
        latency_ms=latency_ms,
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        is_cut=choice.finish_reason == "length",
    )


def _text(choice: _Choice) -> tuple[str | None, str | None]:
    try:
        text = clean(text_of(choice.message.model_dump(exclude_none=True)))
    except Invalid:
        text = ""
    if not text.strip():
        return None, clean(f"an empty answer (finish_reason {choice.finish_reason})")[
            :LONGEST_ERROR
        ]
    if len(text) > LONGEST_ANSWER:
        return None, f"an answer of {len(text):,} characters; {LONGEST_ANSWER:,} are compared"
    return text, None


def _counted(value: object) -> int | None:
    """A number of tokens; what is none counts as unknown."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= MOST_TOKENS else None


_Count = Annotated[int | None, BeforeValidator(_counted)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="allow")

    content: str | list[Any] | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: Any = None


class _Usage(BaseModel):
    prompt_tokens: _Count = None
    completion_tokens: _Count = None


def _if_any(value: object) -> object:
    return value if isinstance(value, dict) else {}


class Completion(BaseModel):
    """As much of a chat completion as matters here; tokens that cannot be read are unknown."""

    model: Any = None
    choices: list[_Choice] = Field(min_length=1)
    usage: Annotated[_Usage, BeforeValidator(_if_any)] = _Usage()
