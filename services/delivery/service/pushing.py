"""Pushing public events into the queues of outside subscribers."""

from __future__ import annotations

import time

from services.delivery import domain
from services.delivery.ports import SubscriberQueues
from services.delivery.repository import events, subscriptions
from services.delivery.repository.subscriptions import Held
from services.delivery.service.ringing import EVERY_PROJECT
from services.delivery.settings import DeliverySettings
from shared.db import Units
from shared.errors import Unavailable

_SUBSCRIPTIONS = 20
_EVENTS = 100


def push_news(units: Units, queues: SubscriberQueues, settings: DeliverySettings) -> int:
    """
    One round: give every subscriber that keeps up its next events, at least once, in order.

    A crash between publishing and advancing repeats events under the same ids. A queue that takes
    nothing is left alone for a while, and the others get theirs.

    Returns:
        How many events were published.

    Raises:
        Unavailable: Postgres or the broker is away, or a queue takes nothing.
    """
    held_until = time.monotonic() + settings.subscriber_hold_seconds
    with units.open(EVERY_PROJECT) as uow:
        held = subscriptions.hold_with_news(
            uow.session, seconds=settings.subscriber_hold_seconds, limit=_SUBSCRIPTIONS
        )
    published = 0
    failure: Unavailable | None = None
    for one in held:
        # Each waits in vain when the broker is frozen; then the rest is free for whoever is next.
        if time.monotonic() > held_until:
            break
        try:
            published += _push(units, queues, one, settings)
        except Unavailable as error:
            failure = error
            pause = settings.subscriber_full_seconds
            with units.open(EVERY_PROJECT) as uow:
                subscriptions.let_go(uow.session, one, one.cursor, after_seconds=pause)
    if failure:
        raise failure
    return published


def _push(units: Units, queues: SubscriberQueues, held: Held, settings: DeliverySettings) -> int:
    room = max(0, settings.subscriber_queue_events - queues.depth(held.project, held.queue))
    with units.open(EVERY_PROJECT) as uow:
        found = events.list_next(uow.session, held.project, held.cursor, _EVENTS)
    push = domain.plan_push(found, held.types, room, held.cursor)
    queues.publish(held.project, held.queue, [event.envelope for event in push.events])
    pause = settings.subscriber_full_seconds if len(push.events) == room else 0.0
    with units.open(EVERY_PROJECT) as uow:
        subscriptions.let_go(uow.session, held, push.cursor, after_seconds=pause)
    return len(push.events)
