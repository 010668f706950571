"""Answers to the lines of a batch: when to ask again, and how they are written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

# What may go better next time. All else is an answer, also where it is an error.
_PASSING = frozenset({429, 503})
# The model was there and took all the time it was given; a third try would take it too.
_TIMEOUT = "upstream_timeout"
_MOST_TIMEOUTS = 2
# With the longest pause, an hour and a half.
_MOST_REPETITIONS = 100
_LONGEST_PAUSE_SECONDS = 60.0
_LONGEST_REST_SECONDS = 3_600.0

EXPIRED = (
    "batch_expired",
    "This request could not be executed before the completion window expired.",
)
CANCELLED = ("batch_cancelled", "The batch was cancelled before this request was executed.")


@dataclass(frozen=True, slots=True)
class Result:
    """
    The answer to a line.

    Attributes:
        request_id: Of the record, where there is one: ratings and corrections are given under it.
        body: JSON, as the endpoint answers.
    """

    status: int
    request_id: str
    body: str

    @property
    def is_error(self) -> bool:
        return self.status != 200


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a line took; nothing where it was not answered well."""

    read: int = 0
    written: int = 0

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """Of an answer of one of the endpoints, or of an error."""
        usage = body.get("usage", {})
        return cls(usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0))


def write_body(body: Mapping[str, Any]) -> str:
    """
    JSON, as `json.dumps` writes it.

    A list of vectors may have 25 MB. Item by item others have their turn in between: a single call
    would hold the interpreter for a second.
    """
    parts = (f"{json.dumps(key)}:{_written(value)}" for key, value in body.items())
    return "{" + ",".join(parts) + "}"


def repeat_pause(
    status: int, code: str | None, failures: int, *, retry_after: float, chance: float
) -> float | None:
    """
    Seconds until a line that failed is asked again, or None to take the failure for its answer.

    Args:
        status: Of the answer.
        code: Of its error.
        failures: So far, at least 1.
        retry_after: Seconds the other side asked for, 0 if it did not.
        chance: Uniform in [0, 1).

    Source: "full jitter" of AWS's Exponential Backoff And Jitter (2015).
    """
    most = _MOST_TIMEOUTS if code == _TIMEOUT else _MOST_REPETITIONS
    if status not in _PASSING or failures >= most:
        return None
    ceiling = min(_LONGEST_PAUSE_SECONDS, 2.0 ** min(failures, 10))
    return min(_LONGEST_PAUSE_SECONDS, retry_after) + chance * ceiling


def rest_seconds(attempts: int, *, first: float) -> float:
    """
    How long a batch is left alone that cannot go on here, for example because a disk is full.

    Args:
        attempts: In a row that came to this, at least 1.
        first: After the first of them; each next one is ten times as long, up to an hour.
    """
    return min(_LONGEST_REST_SECONDS, first * 10.0 ** (attempts - 1))


def write_answer(batch_id: str, line: int, custom_id: str, result: Result) -> str:
    """A line of the output file, or of the error file, in OpenAI's form."""
    head = _head(batch_id, line, custom_id)
    response = (
        f'{{"status_code":{result.status},"request_id":{json.dumps(result.request_id)},"body":'
    )
    return f'{head},"response":{response}{result.body}}},"error":null}}\n'


def write_silence(batch_id: str, line: int, custom_id: str, why: tuple[str, str]) -> str:
    """A line of the error file for a request that was not answered."""
    code, message = why
    error = json.dumps({"code": code, "message": message}, separators=(",", ":"))
    return f'{_head(batch_id, line, custom_id)},"response":null,"error":{error}}}\n'


def _written(value: object) -> str:
    if isinstance(value, list):
        return "[" + ",".join(json.dumps(each, separators=(",", ":")) for each in value) + "]"
    return json.dumps(value, separators=(",", ":"))


def _head(batch_id: str, line: int, custom_id: str) -> str:
    name = f"batch_req_{batch_id.removeprefix('batch_')}{line:05x}"
    return f'{{"id":"{name}","custom_id":{json.dumps(custom_id)}'
