"""Frozen dataclasses to JSON values and back, exactly."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import lru_cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter

State = TypeVar("State")


@lru_cache(maxsize=64)
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    return TypeAdapter(cast("Any", kind))


def to_json(state: object) -> dict[str, object]:
    """
    A frozen dataclass as nested dicts, lists, strings and numbers.

    Args:
        state: Instance of a dataclass whose fields are numbers, strings, enums, None, tuples or
            such dataclasses. All floats are finite; JSON has no other.

    Cost: O(size of the state).
    """
    return cast(
        "dict[str, object]",
        _adapter(cast("Hashable", type(state))).dump_python(state, mode="json"),
    )


def from_json(kind: type[State], data: Mapping[str, object]) -> State:
    """
    The dataclass that `to_json` was given; equal in every bit.

    Python prints the shortest decimal that reads back as the same float, and Postgres' jsonb keeps
    decimals exactly. An integral float that comes back as an integer becomes a float again.

    Raises:
        pydantic.ValidationError: The data has another shape than *kind*.
    """
    return cast("State", _adapter(cast("Hashable", kind)).validate_python(data))
