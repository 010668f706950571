"""JSON in the one form two people hash alike: RFC 8785 (JSON Canonicalization Scheme)."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from json.encoder import encode_basestring as quoted
from typing import Any, cast

# Beyond it a reader that knows only doubles, as JavaScript does, would see another number.
_EXACT = 2**53
_EXACT_CHARACTERS = len(str(-_EXACT))
_PLAIN_DIGITS = 21


def canonical(value: object) -> bytes:
    """
    *value* in UTF-8: no blanks, keys by UTF-16 code units, numbers as ECMAScript writes them.

    Args:
        value: What `json.loads` gives: dict, list, str, int, float, bool, None.

    Raises:
        ValueError: Not a number, infinite, an integer beyond 2^53, or a lone surrogate.
        TypeError: Something JSON has no form for.
    """
    return (_AS_IT_IS.encode(value) if _is_plain(value) else _text(value)).encode()


def interoperable(document: str) -> Any:  # noqa: ANN401 - whatever the document holds
    """Parse JSON; integers beyond 2^53 become strings, as RFC 7493 advises."""
    return _INTEROPERABLE.decode(document)


def reread(document: str) -> Any:  # noqa: ANN401 - whatever the document holds
    """Parse what `canonical` wrote: integers beyond 2^53 can only have been doubles."""
    return _REREAD.decode(document)


def _small(digits: str, otherwise: type[str | float]) -> int | str | float:
    is_small = len(digits) <= _EXACT_CHARACTERS and abs(int(digits)) <= _EXACT
    return int(digits) if is_small else otherwise(digits)


_INTEROPERABLE = json.JSONDecoder(parse_int=lambda digits: _small(digits, str))
_REREAD = json.JSONDecoder(parse_int=lambda digits: _small(digits, float))

# Where number formats and the order of keys agree, the encoder written in C does the same.
_AS_IT_IS = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _is_plain(value: object) -> bool:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is dict:
        members = cast("dict[str, object]", value)
        return all(name.isascii() and _is_plain(members[name]) for name in members)
    if kind is list:
        return all(map(_is_plain, cast("list[object]", value)))
    return kind is int and abs(cast("int", value)) <= _EXACT


def _text(value: object) -> str:
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, dict):
        members = (f"{quoted(name)}:{_text(value[name])}" for name in sorted(value, key=_utf16))
        return "{" + ",".join(members) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_text, value)) + "]"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return _number(value)
    raise TypeError(f"JSON has no form for {type(value).__name__}")


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be")


def _integer(value: int) -> str:
    if abs(value) > _EXACT:
        raise ValueError(f"readers that know only doubles would change {value}; write a string")
    return str(value)


def _number(value: float) -> str:
    """Number::toString of ECMA-262: the shortest digits that read back as the same double."""
    if not math.isfinite(value):
        raise ValueError(f"JSON has no number {value}")
    if value == 0:
        return "0"
    # repr gives the same digits and differs only in where it begins to use an exponent.
    minus, figures, exponent = Decimal(repr(value)).normalize().as_tuple()
    digits = "".join(map(str, figures))
    point = len(digits) + int(exponent)
    sign = "-" if minus else ""
    if len(digits) <= point <= _PLAIN_DIGITS:
        return sign + digits.ljust(point, "0")
    if 0 < point <= _PLAIN_DIGITS:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{point - 1:+d}"
