"""Forgetting answers that nobody repeats a request for any more."""

from __future__ import annotations

from services.delivery.service.ringing import EVERY_PROJECT
from shared.db import Units
from shared.spine import answers

# Some milliseconds of work, in a transaction of its own.
_BATCH = 1_000
# Of one round; a longer backlog is worked off in several.
_BATCHES = 20


def forget_answers(units: Units, hours: float) -> int:
    """
    Delete kept answers older than *hours*; their keys may be used anew.

    Returns:
        How many were deleted in this round.
    """
    forgotten = 0
    for _ in range(_BATCHES):
        with units.open(EVERY_PROJECT) as uow:
            found = answers.forget(uow.session, hours, _BATCH)
        forgotten += found
        if found < _BATCH:
            break
    return forgotten
