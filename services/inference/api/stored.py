"""Stored chats, in OpenAI's shapes."""

from __future__ import annotations

from typing import Annotated, cast
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request

from services.inference import stored
from services.inference.api.answering import MayInfer
from services.inference.api.schemas import (
    CompletionDeleted,
    CompletionObject,
    StoredMessage,
    UpdateCompletion,
)
from services.inference.domain import stored as rules
from services.inference.repository import stored as rows
from services.inference.settings import inference_settings
from shared.db import Units
from shared.errors import Invalid, Missing
from shared.http import Unit, context_of
from shared.metadata import read_filter
from shared.pages import Page, page_of

router = APIRouter(prefix="/v1/chat/completions", tags=["inference"])

Limit = Annotated[int, Query(ge=1, le=100)]


async def _arrived(_: MayInfer, request: Request, completion_id: str) -> UUID:
    asked = rules.read_id(completion_id)
    units = cast("Units", request.app.state.units)
    await stored.await_arrival(
        units,
        context_of(request),
        asked,
        longest_answer_seconds=inference_settings().longest_answer_seconds,
    )
    return asked


# A stored chat by its id. Declared before the unit of work, which must not wait with it.
Arrived = Annotated[UUID, Depends(_arrived)]


@router.get("")
def list_all(
    _: MayInfer,
    uow: Unit,
    request: Request,
    after: str | None = None,
    limit: Limit = 20,
    order: rules.Order = "asc",
    model: str | None = None,
) -> Page[CompletionObject]:
    """Stored chats, oldest first; a new one is listed within a quarter of a second."""
    found = rows.list_page(
        uow.session,
        after=None if after is None else _cursor(after),
        limit=limit,
        order=order,
        model=model,
        metadata=read_filter(request.query_params),
    )
    return page_of([CompletionObject.of(row) for row in found], limit)


@router.get("/{completion_id}")
def retrieve(_: MayInfer, completion_id: Arrived, uow: Unit) -> CompletionObject:
    """One stored chat."""
    return CompletionObject.of(stored.load(uow, completion_id))


@router.post("/{completion_id}")
def update(
    _: MayInfer, completion_id: Arrived, uow: Unit, body: UpdateCompletion
) -> CompletionObject:
    """Replace the metadata of a stored chat."""
    return CompletionObject.of(stored.replace_metadata(uow, completion_id, body.metadata))


@router.delete("/{completion_id}")
def delete(_: MayInfer, completion_id: Arrived, uow: Unit) -> CompletionDeleted:
    """Delete a stored chat, request and answer."""
    stored.delete(uow, completion_id)
    return CompletionDeleted(id=rules.write_id(completion_id))


@router.get("/{completion_id}/messages")
def list_messages(
    _: MayInfer,
    completion_id: Arrived,
    uow: Unit,
    after: str | None = None,
    limit: Limit = 20,
    order: rules.Order = "asc",
) -> Page[StoredMessage]:
    """What was asked in a stored chat, message by message."""
    listed = rules.list_messages(completion_id, stored.load(uow, completion_id).messages)
    following = rules.messages_after(listed, after=after, order=order)
    return page_of([StoredMessage.model_validate(each) for each in following], limit)


def _cursor(after: str) -> UUID:
    try:
        return rules.read_id(after)
    except Missing as error:
        raise Invalid(
            f"after: '{after}' is no id of a chat completion.", code="unknown_cursor", param="after"
        ) from error
