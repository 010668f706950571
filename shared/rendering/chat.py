"""
Chats in OpenAI's message format, written as ChatML.

Every piece of content is tokenised on its own, exactly as a model produces it after the generation
prompt. So a chat in training reads like the same chat in serving, token for token, and no content
can open or close a turn.

Beyond the plain text turns of the template:

* `developer` is written as `system`, `function` as `tool`.
* Calls an assistant makes are written after its text, each as a `<tool_call>` element holding JSON
  with `name` and `arguments`.
* Functions it may call are told of at the end of the first system turn, or in one of their own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from shared.errors import Invalid
from shared.rendering.bases import BaseModel
from shared.rendering.tokenizer import encode
from shared.rendering.tools import tell_tools, write_call

Message = Mapping[str, Any]

_WRITTEN_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


@dataclass(frozen=True)
class Rendered:
    """
    A chat as tokens.

    Attributes:
        token_ids: The whole chat.
        trained: For each token, whether a model learns to produce it: text of assistant turns and
            the token that ends such a turn. Same length as *token_ids*.
    """

    token_ids: list[int]
    trained: list[bool]


def render(
    base: BaseModel,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool,
    functions: Sequence[Mapping[str, Any]] = (),
) -> Rendered:
    """
    Writes a chat the way *base* reads it.

    Args:
        base: Whose tokens and default system text to use.
        messages: In OpenAI's format: `role`, `content` (text, or a list of text parts), and for an
            assistant `tool_calls`, `refusal` and `weight` (0: shown, but not learned).
        add_generation_prompt: End with an open assistant turn.
        functions: The assistant may call; the first system turn tells of them.

    Raises:
        Invalid: A message cannot be written; `param` names it.

    Cost: linear in the length of the text.
    """
    if not messages:
        raise Invalid(
            "messages is empty; give at least one message.", code="empty_messages", param="messages"
        )
    rendered = Rendered([], [])
    told = tell_tools(functions) if functions else None
    if _written_role(messages[0], 0) != "system":
        begun = [text for text in (base.default_system, told) if text is not None]
        if begun:
            _append_turn(rendered, base, "system", "\n\n".join(begun), is_trained=False)
            told = None
    for position, message in enumerate(messages):
        role = _written_role(message, position)
        text = text_of(message, position)
        if told is not None:
            # The first message is the system's.
            text, told = f"{text}\n\n{told}", None
        is_trained = role == "assistant" and _weight(message, position) == 1
        _append_turn(rendered, base, role, text, is_trained=is_trained)
    if add_generation_prompt:
        _append(rendered, _header(base, "assistant"), is_trained=False)
    return rendered


def count_tokens(base: BaseModel, messages: Sequence[Message]) -> int:
    """
    Number of tokens of a whole chat, without a generation prompt: what training reads of it.

    Raises:
        Invalid: As `render`.
    """
    return len(render(base, messages, add_generation_prompt=False).token_ids)


def _append_turn(
    rendered: Rendered, base: BaseModel, role: str, text: str, *, is_trained: bool
) -> None:
    _append(rendered, _header(base, role), is_trained=False)
    _append(rendered, (*encode(base, text), base.turn_end_id), is_trained=is_trained)
    _append(rendered, _newline(base), is_trained=False)


def _append(rendered: Rendered, token_ids: Sequence[int], *, is_trained: bool) -> None:
    rendered.token_ids.extend(token_ids)
    rendered.trained.extend([is_trained] * len(token_ids))


@cache
def _header(base: BaseModel, role: str) -> tuple[int, ...]:
    return (base.turn_start_id, *encode(base, f"{role}\n"))


@cache
def _newline(base: BaseModel) -> tuple[int, ...]:
    return tuple(encode(base, "\n"))


def _written_role(message: Message, position: int) -> str:
    role = message.get("role") if isinstance(message, Mapping) else None
    if not isinstance(role, str) or role not in _WRITTEN_ROLES:
        raise Invalid(
            f"messages[{position}] has role {role!r}; use one of {', '.join(_WRITTEN_ROLES)}.",
            code="invalid_role",
            param=f"messages[{position}].role",
        )
    return _WRITTEN_ROLES[role]


def _weight(message: Message, position: int) -> int:
    weight = message.get("weight")
    if weight is None:
        return 1
    if isinstance(weight, bool) or not isinstance(weight, int) or weight not in {0, 1}:
        raise Invalid(
            f"messages[{position}] has weight {weight!r}; use 0 or 1.",
            code="invalid_weight",
            param=f"messages[{position}].weight",
        )
    return int(weight)


def text_of(message: Message, position: int = 0) -> str:
    """
    What a message says, as its turn has it: its text, then the calls of tools.

    Raises:
        Invalid: It cannot be written; `param` names it by its *position* in the chat.
    """
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise Invalid(
            f"messages[{position}] has tool_calls that are no list.",
            code="invalid_tool_call",
            param=f"messages[{position}].tool_calls",
        )
    if message.get("function_call"):
        calls = [{"function": message["function_call"]}]
    content = message.get("content")
    if content is None:
        content = message.get("refusal")
    if content is None and not calls:
        raise Invalid(
            f"messages[{position}] has no content; only an assistant that calls tools may omit it.",
            code="missing_content",
            param=f"messages[{position}].content",
        )
    pieces = [_content_text(content, position)] if content else []
    pieces += [_call_text(call, position) for call in calls]
    return "\n".join(pieces)


def _content_text(content: object, position: int) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "".join(_part_text(part, position) for part in parts)


def _part_text(part: object, position: int) -> str:
    if isinstance(part, Mapping):
        text = part.get(str(part.get("type")))
        if part.get("type") in ("text", "refusal") and isinstance(text, str):
            return text
    raise Invalid(
        f"messages[{position}] has content that is no text; give a string or a list of "
        '{"type": "text", "text": ...} parts.',
        code="invalid_content",
        param=f"messages[{position}].content",
    )


def _call_text(call: object, position: int) -> str:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise Invalid(
            f"messages[{position}] has a tool call without a function name.",
            code="invalid_tool_call",
            param=f"messages[{position}].tool_calls",
        )
    arguments = function.get("arguments", "{}")
    try:
        parsed = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        parsed = arguments
    return write_call(function["name"], parsed)
