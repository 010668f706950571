"""Which tools an answer may, must or must not call. Pure.

Source: OpenAI's chat completions reference (`tools`, `tool_choice`, `parallel_tool_calls`, and the
older `functions`, `function_call`), 2026.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from shared.errors import Invalid

Function = Mapping[str, Any]
Mode = Literal["auto", "required", "named"]

_MAX_DEPTH = 64
_DEFINITION = re.compile(r"^#/(\$defs|definitions)/")
# OpenAI: a function without parameters takes none.
_NOTHING: Function = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class Tools:
    """
    Attributes:
        functions: Those that may be called, at least one.
        mode: `auto` if need be, `required` in any case, `named` the only one there is.
        is_parallel: Whether an answer may hold several calls.
        is_older: Asked for as `functions`; then an answer holds one call at most.
    """

    functions: tuple[Function, ...]
    mode: Mode = "auto"
    is_parallel: bool = True
    is_older: bool = False

    @property
    def is_forced(self) -> bool:
        return self.mode != "auto"

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of one call."""
        definitions: dict[str, Any] = {}
        calls = [_call_schema(function, definitions) for function in self.functions]
        root = calls[0] if len(calls) == 1 else {"anyOf": calls}
        return {**root, "$defs": definitions} if definitions else root


def choose_tools(
    functions: Sequence[Function], choice: object, *, is_parallel: bool, is_older: bool = False
) -> Tools | None:
    """
    What a request lets an answer call; None when that is nothing.

    Args:
        functions: Declared ones.
        choice: `none`, `auto`, `required`, or an object that names one; None is `auto`.
        is_parallel: As `parallel_tool_calls`.
        is_older: The request says `functions` and `function_call`.

    Raises:
        Invalid: The choice is none of these, or names nothing that is declared.
    """
    field = "function_call" if is_older else "tool_choice"
    if choice == "none":
        return None
    if not functions:
        if choice in (None, "auto"):
            return None
        raise Invalid(f"{field} is only allowed with tools.", code="invalid_value", param=field)
    known = tuple(functions)
    if choice in (None, "auto"):
        return Tools(known, "auto", is_parallel and not is_older, is_older)
    if choice == "required" and not is_older:
        return Tools(known, "required", is_parallel)
    name = _named(choice)
    named = tuple(function for function in known if function["name"] == name)
    if not named:
        raise Invalid(
            f"{field} names no declared function; use 'none', 'auto', 'required' or one of "
            f"{', '.join(function['name'] for function in known)}.",
            code="invalid_value",
            param=field,
        )
    return Tools(named, "named", is_parallel=False, is_older=is_older)


def _named(choice: object) -> object:
    if not isinstance(choice, Mapping):
        return None
    function = choice.get("function", choice)
    return function.get("name") if isinstance(function, Mapping) else None


def _closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """
    The schema without arguments that nobody declared, unless it allows them in so many words.

    JSON Schema allows them by default, and a small model makes them up until its tokens end.
    """
    closed = dict(schema)
    declared = schema.get("properties")
    if isinstance(declared, Mapping):
        closed["properties"] = {
            name: _closed(value) if isinstance(value, Mapping) else value
            for name, value in declared.items()
        }
        # Parts that are added to it may declare more.
        if "allOf" not in schema:
            closed.setdefault("additionalProperties", False)
    if isinstance(items := schema.get("items"), Mapping):
        closed["items"] = _closed(items)
    return closed


def _call_schema(function: Function, definitions: dict[str, Any]) -> dict[str, Any]:
    """Schema of a call of *function*; what its parameters define goes into *definitions*."""
    parameters = dict(function.get("parameters") or _NOTHING)
    own = [parameters.pop(name, None) for name in ("definitions", "$defs")]
    prefix = f"{function['name']}."
    for each in own:
        for name, schema in (each if isinstance(each, Mapping) else {}).items():
            found = _referring(schema, prefix)
            is_object = isinstance(found, Mapping)
            definitions[f"{prefix}{name}"] = _closed(found) if is_object else found
    return {
        "type": "object",
        "properties": {
            "name": {"const": function["name"]},
            "arguments": _closed(_referring(parameters, prefix)),
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _referring(value: Any, prefix: str, depth: int = 0) -> Any:  # noqa: ANN401 - any JSON
    """
    The same JSON with references to definitions as they are called at the root.

    Raises:
        Invalid: It is nested too deeply.
    """
    if depth > _MAX_DEPTH:
        raise Invalid(
            f"The parameters of a tool are nested deeper than {_MAX_DEPTH} levels; flatten them.",
            code="invalid_value",
            param="tools",
        )
    if isinstance(value, list):
        return [_referring(each, prefix, depth + 1) for each in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key: _DEFINITION.sub(f"#/$defs/{prefix}", each)
        if key == "$ref" and isinstance(each, str)
        else _referring(each, prefix, depth + 1)
        for key, each in value.items()
    }
