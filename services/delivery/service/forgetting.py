"""Forgetting answers that nobody repeats a request for any more."""

from __future__ import annotations

from services.delivery.service.ringing import EVERY_PROJECT
from shared.db import Units
from shared.spine import answers

# Some milliseconds of work; a backlog is worked off in several rounds.
_BATCH = 1_000


def forget_answers(units: Units, hours: float) -> int:
    """
    Delete kept answers older than *hours*; their keys may be used anew.

    Returns:
        How many were deleted in this round.
    """
    with units.open(EVERY_PROJECT) as uow:
        return answers.forget(uow.session, hours, _BATCH)
