"""Forgetting what nobody asks for any more: answers to repetitions, and the log of webhooks."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.orm import Session

from services.delivery.repository import webhooks
from services.delivery.service.ringing import EVERY_PROJECT
from services.delivery.settings import DeliverySettings
from shared.db import Units
from shared.spine import answers

# Some milliseconds of work, in a transaction of its own.
_BATCH = 1_000
# Of one round; a longer backlog is worked off in several.
_BATCHES = 20


def forget(units: Units, settings: DeliverySettings) -> int:
    """One round of all that is to be forgotten; how many rows there were."""
    return forget_answers(units, settings.idempotency_hours) + _in_batches(
        units,
        lambda session: webhooks.forget_attempts(session, settings.webhook_log_days, _BATCH),
    )


def forget_answers(units: Units, hours: float) -> int:
    """
    Delete kept answers older than *hours*; their keys may be used anew.

    Returns:
        How many were deleted in this round.
    """
    return _in_batches(units, lambda session: answers.forget(session, hours, _BATCH))


def _in_batches(units: Units, forget_batch: Callable[[Session], int]) -> int:
    forgotten = 0
    for _ in range(_BATCHES):
        with units.open(EVERY_PROJECT) as uow:
            found = forget_batch(uow.session)
        forgotten += found
        if found < _BATCH:
            break
    return forgotten
