"""A bounded reader of JSON lines: every limit holds before anything is parsed.

Accepts a byte order mark, CRLF and blank lines. Rejects at the line what other parsers pass on
silently changed: duplicate keys, NaN and infinities, NUL and lone surrogates, bombs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from shared.errors import Invalid

MAX_LINE_BYTES = 1 << 20
MAX_DEPTH = 32
# Ids and counts fit in 20 digits; longer integers only cost time.
_MAX_DIGITS = 20
_BOM = b"\xef\xbb\xbf"
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")
_OPENERS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Line:
    """One non-blank line: its number from 1, and its bytes without the line end."""

    number: int
    data: bytes


def read_lines(chunks: Iterable[bytes]) -> Iterator[Line]:
    """
    Split a stream of chunks into lines; memory is bounded by one line and one chunk.

    Raises:
        Invalid: A line is longer than 1 MiB (`line_too_long`), with its number; or the stream is
            written in UTF-16 (`not_utf8`).
    """
    number, rest = 1, b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield from _line(number, line)
            number += 1
        _check_length(number, rest)
    yield from _line(number, rest)


def parse_object(line: Line) -> dict[str, Any]:
    """
    The JSON object on *line*.

    Raises:
        Invalid: Code `invalid_json`; the message has the line and what to mend.
    """
    _check_depth(line)
    try:
        text = line.data.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_bounded_int,
        )
    except UnicodeDecodeError as error:
        raise _refused(line, f"byte {error.start} is not UTF-8; save the file as UTF-8") from error
    except ValueError as error:
        raise _refused(line, f"not valid JSON ({error}); write one JSON object a line") from error
    if not isinstance(value, dict):
        raise _refused(line, "not a JSON object; write one object {...} a line")
    if "\\u0000" in text or _LONE_SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise _refused(line, "holds a NUL character or half a surrogate pair; remove it")
    return value


def _line(number: int, data: bytes) -> Iterator[Line]:
    _check_length(number, data)
    if number == 1:
        _check_encoding(data)
    stripped = data.removeprefix(_BOM).strip() if number == 1 else data.strip()
    if stripped:
        yield Line(number, stripped)


def _check_encoding(data: bytes) -> None:
    # JSON begins with two ASCII characters, so a NUL among the first bytes is half a wider one.
    if data.startswith(_WIDE_BOMS) or b"\0" in data[:4]:
        raise Invalid("The file is UTF-16 and not UTF-8; save it as UTF-8.", code="not_utf8")


def _check_length(number: int, data: bytes) -> None:
    if len(data) > MAX_LINE_BYTES:
        raise Invalid(
            f"Line {number} is longer than {MAX_LINE_BYTES} bytes; split the example.",
            code="line_too_long",
        )


def _check_depth(line: Line) -> None:
    # Counted before building: a deep nest ends the parser with a RecursionError.
    depth = 0
    for token in _OPENERS.finditer(line.data):
        if token[0] in {b"[", b"{"}:
            depth += 1
            if depth > MAX_DEPTH:
                raise _refused(line, f"nested deeper than {MAX_DEPTH} levels; flatten it")
        elif token[0] in {b"]", b"}"}:
            depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!a} appears twice")
    return dict(pairs)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _bounded_int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _refused(line: Line, why: str) -> Invalid:
    return Invalid(f"Line {line.number}: {why}.", code="invalid_json")
