"""Routes of events, subscriptions and dead letters."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from services.delivery.bootstrap import delivery_settings
from services.delivery.repository import dead_letters, subscriptions
from services.delivery.schemas import (
    CreateSubscription,
    DeadLetter,
    Deleted,
    Discard,
    Discarded,
    Replayed,
    Subscription,
    events_of,
)
from services.delivery.service import dead_letters as letters
from services.delivery.service import events as feed
from services.delivery.service import subscriptions as subscribing
from shared.contracts.envelope import Envelope
from shared.http import Unit, authorised
from shared.idempotency import CreatingRoute, Creation
from shared.keys import Caller
from shared.pages import Page, page_of
from shared.process import process_settings

router = APIRouter(prefix="/api/v1", tags=["events"], route_class=CreatingRoute)

Limit = Annotated[int, Query(ge=1, le=100)]
Reader = Annotated[Caller, authorised("events:read")]
Writer = Annotated[Caller, authorised("events:write")]


@router.get("/events")
def events(
    caller: Reader,
    uow: Unit,
    after: Annotated[str | None, Query(description="Id of the last event read.")] = None,
    types: Annotated[str, Query(description="Comma-separated; empty means all.")] = "",
    limit: Limit = 20,
) -> Page[Envelope]:
    """Public events as CloudEvents, oldest first; what a full queue could not take is here."""
    wanted = [name for name in types.split(",") if name]
    found = feed.list_events(uow, after=after, types=wanted, limit=limit)
    return page_of(events_of(found), limit)


@router.post("/subscriptions")
def subscribe(caller: Writer, uow: Creation, body: CreateSubscription) -> Subscription:
    """Push the project's public events into a named queue from now on."""
    row = subscribing.create_subscription(
        uow,
        queue=body.queue,
        types=body.types,
        most=delivery_settings().subscriptions_per_project,
    )
    return Subscription.of(row, process_settings().broker_prefix)


@router.get("/subscriptions")
def list_subscriptions(caller: Reader, uow: Unit) -> Page[Subscription]:
    """All subscriptions of the project, oldest first."""
    prefix = process_settings().broker_prefix
    rows = [Subscription.of(row, prefix) for row in subscriptions.list_all(uow.session)]
    return page_of(rows, len(rows))


@router.delete("/subscriptions/{subscription_id}")
def unsubscribe(caller: Writer, uow: Unit, subscription_id: str) -> Deleted:
    """Push no more; what is in the queue stays for its reader."""
    subscribing.delete_subscription(uow, subscription_id)
    return Deleted(id=subscription_id)


@router.get("/dead-letters")
def list_dead_letters(
    caller: Reader, uow: Unit, after: str | None = None, limit: Limit = 20
) -> Page[DeadLetter]:
    """Messages that were given up, latest first."""
    rows = dead_letters.list_from(uow.session, after, limit + 1)
    return page_of([DeadLetter.of(row) for row in rows], limit)


@router.get("/dead-letters/{dead_letter_id}")
def retrieve_dead_letter(caller: Reader, uow: Unit, dead_letter_id: str) -> DeadLetter:
    """One dead letter."""
    return DeadLetter.of(letters.load_dead_letter(uow, dead_letter_id))


@router.post("/dead-letters/{dead_letter_id}/replay")
def replay(caller: Writer, uow: Creation, dead_letter_id: str) -> Replayed:
    """Try a dead letter again, with all its attempts."""
    delivery = letters.replay_dead_letter(uow, dead_letter_id)
    return Replayed(id=delivery, dead_letter=dead_letter_id)


@router.post("/dead-letters/{dead_letter_id}/discard")
def discard(caller: Writer, uow: Creation, dead_letter_id: str, body: Discard) -> Discarded:
    """Give a dead letter up for good; the audit log keeps what it was, and the reason."""
    letters.discard_dead_letter(uow, dead_letter_id, body.reason)
    return Discarded(id=dead_letter_id)
