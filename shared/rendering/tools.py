"""How tools are told to a model, and how its calls are read back.

Training and serving both use it, so that a model is asked in the words it was taught with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OPEN, CLOSE = "<tool_call>\n", "\n</tool_call>"

_CALL = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)
_TOLD = """\
You may call these functions:
<tools>
{tools}
</tools>
To call one, answer with its name and arguments:
<tool_call>
{{"name": "...", "arguments": {{...}}}}
</tool_call>"""


@dataclass(frozen=True, slots=True)
class Call:
    """
    A function that a model wants to be called.

    Attributes:
        arguments: JSON text.
    """

    name: str
    arguments: str


def functions_of(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The functions that a row or a request declares, under the newer or the older name."""
    tools, older = (row.get(name) for name in ("tools", "functions"))
    newer = [
        tool.get("function")
        for tool in (tools if isinstance(tools, list) else [])
        if isinstance(tool, Mapping)
    ]
    found = [*newer, *(older if isinstance(older, list) else [])]
    return [each for each in found if isinstance(each, Mapping)]


def tell_tools(functions: Sequence[Mapping[str, Any]]) -> str:
    """What a system turn says about *functions*: one a line, with what OpenAI's format has."""
    known = ("name", "description", "parameters")
    lines = [
        json.dumps({key: each[key] for key in known if key in each}, ensure_ascii=False)
        for each in functions
    ]
    return _TOLD.format(tools="\n".join(lines))


def write_call(name: str, arguments: object) -> str:
    """A call as an assistant's turn has it."""
    body = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"{OPEN}{body}{CLOSE}"


def read_calls(text: str) -> tuple[str, list[Call]]:
    """
    What an answer says beside its calls, and the calls.

    What looks like a call and is none stays text: a model may write anything.
    """
    calls: list[Call] = []

    def read(match: re.Match[str]) -> str:
        call = _read(match.group(1))
        if call is None:
            return match.group(0)
        calls.append(call)
        return ""

    rest = _CALL.sub(read, text)
    return (rest.strip() if calls else text), calls


def _read(body: str) -> Call | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    # In ASCII: what a model writes may hold half a surrogate pair, which no answer can carry.
    return Call(value["name"], json.dumps(value.get("arguments") or {}))
