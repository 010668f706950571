"""Metadata that callers attach to OpenAI's objects, and search by: its bounds and its filter."""

from __future__ import annotations

from collections.abc import Mapping

from shared.errors import Invalid

MAX_PAIRS = 16
MAX_KEY_CHARACTERS = 64
MAX_VALUE_CHARACTERS = 512

_FILTER = "metadata["


def check_metadata(metadata: Mapping[str, str] | None) -> None:
    """
    Raises:
        Invalid: There are too many pairs, or a key or value is too long or no text.

    Source: OpenAI's specification; that NUL is no text is Postgres's rule.
    """
    pairs = metadata or {}
    if len(pairs) > MAX_PAIRS:
        raise _error(f"at most {MAX_PAIRS} pairs are allowed", "metadata")
    for key, value in pairs.items():
        if not (1 <= len(key) <= MAX_KEY_CHARACTERS and _is_text(key)):
            raise _error(f"a key has 1 to {MAX_KEY_CHARACTERS} characters of text", "metadata")
        if not (len(value) <= MAX_VALUE_CHARACTERS and _is_text(value)):
            rule = f"a value has at most {MAX_VALUE_CHARACTERS} characters of text"
            raise _error(rule, f"metadata.{key}")


def read_filter(query: Mapping[str, str]) -> dict[str, str] | None:
    """
    What `metadata[key]=value` selects.

    Args:
        query: Parameters of a request.

    Returns:
        Pairs a thing must have; empty for `metadata=null`, which wants things without any; None
        where nothing is said of metadata.
    """
    if query.get("metadata") == "null":
        return {}
    wanted = {
        name.removeprefix(_FILTER).removesuffix("]"): value
        for name, value in query.items()
        if name.startswith(_FILTER) and name.endswith("]")
    }
    return wanted or None


def _is_text(given: str) -> bool:
    # Half a surrogate pair is no character.
    return "\0" not in given and not any("\ud800" <= each <= "\udfff" for each in given)


def _error(rule: str, param: str) -> Invalid:
    return Invalid(f"{param}: {rule}.", code="invalid_metadata", param=param)
