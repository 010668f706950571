"""Routes of API keys."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from services.gateway import service
from services.gateway.schemas import CreatedKey, CreateKey, Key
from shared.http import Unit, authorised
from shared.idempotency import CreatingRoute, Creation
from shared.keys import Caller
from shared.pages import Page, page_of
from shared.process import process_secret

router = APIRouter(prefix="/api/v1/keys", tags=["keys"], route_class=CreatingRoute)


@router.post("")
def create(
    caller: Annotated[Caller, authorised("keys:write")], uow: Creation, body: CreateKey
) -> CreatedKey:
    """Make a key with some of the caller's own scopes; a repetition does not show it again."""
    row, key = service.create_key(
        uow,
        process_secret("api_key_pepper").values,
        caller,
        name=body.name,
        scopes=body.scopes,
        expires_in_days=body.expires_in_days,
    )
    return CreatedKey(**Key.of(row).model_dump(), key=key)


@router.get("")
def index(
    caller: Annotated[Caller, authorised("keys:write")],
    uow: Unit,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Page[Key]:
    """Keys of the project, newest first, revoked ones included."""
    return page_of([Key.of(row) for row in service.list_keys(uow, after, limit)], limit)


@router.delete("/{key_id}")
def revoke(caller: Annotated[Caller, authorised("keys:write")], uow: Unit, key_id: str) -> Key:
    """End a key; it is refused everywhere within a second."""
    return Key.of(service.revoke_key(uow, key_id))
