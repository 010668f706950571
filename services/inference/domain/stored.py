"""Stored chats: what their ids say, and their messages as OpenAI lists them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from shared.errors import Invalid, Missing
from shared.ids import instant_of

Order = Literal["asc", "desc"]

# Between an answer and its row lie a round of the shipper and the database; a busy machine takes
# longer. Clocks of two hosts may differ by this, too.
ARRIVING_SECONDS = 5.0

_ID = re.compile(r"chatcmpl-([0-9a-f]{32})")


def read_id(completion_id: str) -> UUID:
    """
    The request that a completion answered.

    Raises:
        Missing: It is no id of a chat.
    """
    found = _ID.fullmatch(completion_id)
    if found is None:
        raise missing(completion_id)
    return UUID(found[1])


def write_id(request: UUID) -> str:
    """The id of the completion that answers *request*."""
    return f"chatcmpl-{request.hex}"


def missing(completion_id: str) -> Missing:
    """There is no such stored completion."""
    return Missing(
        f"No chat completion '{completion_id}' is stored in this project; only those are that were "
        "created with store=true.",
        code="completion_not_found",
        param="completion_id",
    )


def may_arrive(request: UUID, now: datetime, *, longest_answer_seconds: float) -> bool:
    """Whether *request* was made so recently that its completion may still be on its way."""
    age = (now - instant_of(request)).total_seconds()
    return -ARRIVING_SECONDS <= age <= longest_answer_seconds + ARRIVING_SECONDS


def list_messages(request: UUID, messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was asked, each message with an id of its own: `<completion id>-<number from 0>`."""
    return [
        {"id": f"{write_id(request)}-{number}"} | _written(message)
        for number, message in enumerate(messages)
    ]


def messages_after(
    listed: Sequence[dict[str, Any]], *, after: str | None, order: Order
) -> Sequence[dict[str, Any]]:
    """
    The messages that follow *after* in that order; all of them when it is None.

    Raises:
        Invalid: There is no such message.
    """
    ordered = listed if order == "asc" else listed[::-1]
    if after is None:
        return ordered
    ids = [message["id"] for message in ordered]
    if after not in ids:
        raise Invalid(
            f"after: there is no item '{after}' in this list.", code="unknown_cursor", param="after"
        )
    return ordered[ids.index(after) + 1 :]


def _written(message: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's form: parts are told apart from a text, and what is not there is null."""
    content = message.get("content")
    parts = content if isinstance(content, list) else None
    return {"content": None, "refusal": None, "name": None, "content_parts": parts} | {
        **message,
        "content": None if parts is not None else content,
    }
