"""Ringing due deliveries, and burying those that never end."""

from __future__ import annotations

from services.delivery import domain
from services.delivery.domain import BusState, Due
from services.delivery.ports import Bell
from services.delivery.repository import deliveries as rows
from shared.broker import MOST_RUNG_TOGETHER, ROOM_QUEUES
from shared.context import Context
from shared.db import UnitOfWork, Units
from shared.errors import Unavailable
from shared.ids import Project
from shared.logging import get_logger
from shared.settings import CoreSettings
from shared.spine import deliveries

log = get_logger(__name__)

ACTOR = "process:delivery"
EVERY_PROJECT = Context.root(Project(""), ACTOR)


def ring_due(units: Units, bell: Bell, settings: CoreSettings) -> int:
    """
    One round: mark what is due as rung, commit, ring it.

    A process that dies between mark and ringing costs one `ring_again_seconds`.

    Returns:
        How many were rung.

    Raises:
        Unavailable: Postgres or the broker is away; nothing is lost.
    """
    bus = bell.look(ROOM_QUEUES)
    if bus.is_wiped:
        # Marked last: a crash in between only makes somebody forget again.
        with units.open(EVERY_PROJECT) as uow:
            forgotten = rows.unmark_all(uow.session)
        bell.mark_memory()
        log.warning("bus_was_wiped", deliveries=forgotten)
    with units.open(EVERY_PROJECT) as uow:
        messages = _mark_next(uow, settings, bus)
    _ring(units, bell, messages)
    return sum(map(len, messages))


def _mark_next(uow: UnitOfWork, settings: CoreSettings, bus: BusState) -> list[list[Due]]:
    if not rows.is_ringer(uow.session):
        return []
    again = settings.ring_again_seconds
    in_flight = rows.count_in_flight(uow.session, again)
    places = domain.free_places(ROOM_QUEUES, in_flight, bus.waiting, settings.ring_window)
    due = rows.list_due(
        uow.session, places, again_seconds=again, attempts=settings.delivery_attempts
    )
    chosen = domain.choose_fairly(due, in_flight, places)
    messages = domain.share_out(chosen, in_flight, bus.waiting, MOST_RUNG_TOGETHER)
    return rows.mark_rung(uow.session, messages) if messages else []


def _ring(units: Units, bell: Bell, messages: list[list[Due]]) -> None:
    if not messages:
        return
    try:
        bell.ring(messages)
    except Unavailable:
        # Nobody knows which of them were sent; one that was finds its row as due as before.
        with units.open(EVERY_PROJECT) as uow:
            rows.unmark(uow.session, [due for message in messages for due in message])
        raise


def bury_exhausted(units: Units, settings: CoreSettings) -> int:
    """
    Turn deliveries into dead letters that have no attempts left and never ended.

    An attempt that raises is counted by the task itself; this catches what kills its worker. Every
    further ringing counts as well, even if its predecessor never began.

    Returns:
        How many were buried.
    """
    with units.open(EVERY_PROJECT) as uow:
        exhausted = rows.list_exhausted(
            uow.session,
            attempts=settings.delivery_attempts,
            again_seconds=settings.ring_again_seconds,
        )
        for one in exhausted:
            reason = (
                f"started {one.starts} times and never ended; "
                f"last error: {one.last_error or 'none, the worker was killed'}"
            )
            deliveries.bury(uow.session, one.id, reason, attempts=one.starts)
            theirs = UnitOfWork(uow.session, Context.root(one.project, ACTOR))
            theirs.audit("delivery.buried", one.id, reason=reason[:300])
    return len(exhausted)
