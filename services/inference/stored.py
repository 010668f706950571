"""Use cases of stored chats. Their rows come through the spool, a moment after the answer."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID

from anyio import CapacityLimiter, to_thread

from services.inference.domain import stored as rules
from services.inference.repository import stored as rows
from services.inference.repository.stored import StoredRow
from shared.context import Context
from shared.db import UnitOfWork, Units
from shared.logging import get_logger
from shared.metadata import check_metadata

_log = get_logger(__name__)

# A row is there after one round of the shipper as a rule, and after several on a busy machine.
_PAUSES_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.75)
# Anybody can ask for ids that do not exist; looks must not use up the threads of the routes.
_LOOKS = CapacityLimiter(4)
# Some milliseconds of work, in a transaction of its own.
_BATCH = 500


async def await_arrival(
    units: Units, context: Context, request: UUID, *, longest_answer_seconds: float
) -> None:
    """
    Wait for the row of a chat that was answered a moment ago, 1.5 s at most.

    Args:
        units: Of the role `app`.
        context: Of the caller.
        request: Says when it was asked, not when it was answered.
        longest_answer_seconds: Of an older one nothing is on its way.

    No connection is held between two looks.
    """
    for pause in _PAUSES_SECONDS:
        now = datetime.now(UTC)
        if not rules.may_arrive(request, now, longest_answer_seconds=longest_answer_seconds):
            return
        if await to_thread.run_sync(_has_arrived, units, context, request, limiter=_LOOKS):
            return
        await asyncio.sleep(pause)


def load(uow: UnitOfWork, request: UUID) -> StoredRow:
    """
    Raises:
        Missing: It is not stored in this project, or not any more.
    """
    row = rows.find(uow.session, request)
    if row is None:
        raise rules.missing(rules.write_id(request))
    return row


def replace_metadata(uow: UnitOfWork, request: UUID, metadata: dict[str, str] | None) -> StoredRow:
    """
    Raises:
        Invalid: The metadata is out of bounds.
        Missing: As `load`.
    """
    check_metadata(metadata)
    rows.replace_metadata(uow.session, request, metadata)
    return load(uow, request)


def delete(uow: UnitOfWork, request: UUID) -> None:
    """
    Raises:
        Missing: As `load`.
    """
    completion_id = rules.write_id(request)
    if not rows.delete(uow.session, request):
        raise rules.missing(completion_id)
    uow.audit("completion.deleted", completion_id)


def forget_old(spine: Units, context: Context, days: float) -> int:
    """
    Delete what is older than *days*, of all projects; any number of processes may do so at once.

    Returns:
        How many there were.
    """
    forgotten = 0
    while True:
        with spine.open(context) as uow:
            found = rows.forget_old(uow.session, days, _BATCH)
        forgotten += found
        if found < _BATCH:
            break
    if forgotten:
        _log.info("stored_completions_forgotten", completions=forgotten)
    return forgotten


def _has_arrived(units: Units, context: Context, request: UUID) -> bool:
    with units.open(context) as uow:
        return rows.has_arrived(uow.session, request)
