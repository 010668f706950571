"""Firing due schedules."""

from __future__ import annotations

from services.delivery.repository import deliveries as rows
from services.delivery.repository import schedules
from services.delivery.service.ringing import ACTOR, EVERY_PROJECT
from shared.contracts.catalogue import BY_TYPE, consumers_of
from shared.contracts.envelope import Envelope, Message
from shared.db import UnitOfWork, Units
from shared.errors import Corrupt
from shared.logging import get_logger

log = get_logger(__name__)

_BATCH = 100


def fire_due(units: Units) -> int:
    """
    Emit the message of every due schedule; any number of processes may do so at once.

    Returns:
        How many schedules were due.
    """
    with units.open(EVERY_PROJECT) as uow:
        due = schedules.take_due(uow.session, _BATCH)
        for stored in due:
            try:
                _fire(uow, Envelope.read(stored))
            except Corrupt as error:
                # Written by another release; it must not stop the schedules beside it.
                log.error("schedule_unreadable", reason=error.message)  # noqa: TRY400 - no trace
    return len(due)


def _fire(every: UnitOfWork, envelope: Envelope) -> None:
    kind = BY_TYPE.get(envelope.type)
    if kind is None:
        # Left by a newer release; the older one cannot know what it means.
        log.error("schedule_of_unknown_type", type=envelope.type, subject=envelope.subject)
        return
    message = kind.read(envelope.data)
    uow = UnitOfWork(every.session, envelope.context(ACTOR))
    if not _is_underway(uow, message):
        uow.emit(message)


def _is_underway(uow: UnitOfWork, message: Message) -> bool:
    """Asked first, because the insert would wait for a worker that is deleting the row."""
    key = message.coalesce_key
    return key is not None and rows.is_unfinished(
        uow.session, uow.project, consumers_of(type(message)), key
    )
