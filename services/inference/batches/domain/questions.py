"""What the lines of an input file have to be. What a model thinks of them is found out later."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from shared.errors import Invalid
from shared.jsonl import Line, parse_object

# Enough to see what is wrong with a file; it has to be mended as a whole.
_MOST_ERRORS = 100
_MOST_ID_CHARACTERS = 512


@dataclass(frozen=True, slots=True)
class Question:
    """One request of a batch: its line from 1, the name it was given, and what is asked."""

    line: int
    custom_id: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class FileError:
    """What is wrong with an input file, in OpenAI's form; `line` counts from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(slots=True)
class Checked:
    """
    What was found in an input file.

    Attributes:
        errors: The first hundred; with one of them no line is asked.
        total: How many requests there are.
        models: The models they name.
    """

    errors: list[FileError] = field(default_factory=list)
    total: int = 0
    models: set[str] = field(default_factory=set)


def read_question(line: Line, endpoint: str) -> Question:
    """
    The request on *line*.

    Raises:
        Invalid: With OpenAI's code and the field; it can be no request to *endpoint*.
    """
    value = _object(line)
    custom_id = _custom_id(line, value)
    if value.get("method") != "POST":
        raise _refused(line, "method has to be 'POST'", "invalid_method", "method")
    if value.get("url") != endpoint:
        raise _refused(
            line, f"url has to be the endpoint of the batch, '{endpoint}'", "mismatched_url", "url"
        )
    body = value.get("body")
    if not isinstance(body, dict):
        raise _refused(line, "body has to be an object", "missing_required_parameter", "body")
    if body.get("stream"):
        raise _refused(
            line,
            "a file carries whole answers; leave 'stream' out",
            "unsupported_parameter",
            "body.stream",
        )
    return Question(line.number, custom_id, body)


def check_questions(lines: Iterable[Line], endpoint: str, *, most: int) -> Checked:
    """
    Look at every line of a file; at most *most* requests are allowed.

    Cost: O(bytes) time; memory for the custom ids.
    """
    checked = Checked()
    seen: dict[str, int] = {}
    try:
        for line in lines:
            _check_line(line, endpoint, checked, seen)
            checked.total += 1
            if checked.total > most:
                too_many = f"The file has more than {most} requests; split it."
                checked.errors.append(FileError("too_many_requests", too_many))
            if checked.total > most or len(checked.errors) >= _MOST_ERRORS:
                break
    except Invalid as error:
        # Of the file as a whole, or of a line too long to be read.
        checked.errors.append(FileError(error.code, error.message))
    if not checked.total and not checked.errors:
        checked.errors.append(FileError("empty_file", "The file has no requests."))
    return checked


def _check_line(line: Line, endpoint: str, checked: Checked, seen: dict[str, int]) -> None:
    try:
        question = read_question(line, endpoint)
        first = seen.setdefault(question.custom_id, question.line)
        if first != question.line:
            raise _refused(
                line,
                f"its custom_id is on line {first} already; give each request its own",
                "duplicate_custom_id",
                "custom_id",
            )
    except Invalid as error:
        checked.errors.append(FileError(error.code, error.message, line.number, error.param))
        return
    model = question.body.get("model")
    if isinstance(model, str):
        checked.models.add(model)


def _object(line: Line) -> dict[str, Any]:
    try:
        return parse_object(line)
    except Invalid as error:
        raise Invalid(error.message, code="invalid_json_line") from error


def _custom_id(line: Line, value: dict[str, Any]) -> str:
    custom_id = value.get("custom_id")
    if isinstance(custom_id, str) and 1 <= len(custom_id) <= _MOST_ID_CHARACTERS:
        return custom_id
    raise _refused(
        line,
        f"custom_id has to be a text of 1 to {_MOST_ID_CHARACTERS} characters",
        "missing_required_parameter",
        "custom_id",
    )


def _refused(line: Line, why: str, code: str, param: str) -> Invalid:
    return Invalid(f"Line {line.number}: {why}.", code=code, param=param)
