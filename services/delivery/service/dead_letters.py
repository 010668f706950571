"""Giving dead letters another life."""

from __future__ import annotations

from services.delivery.repository import dead_letters
from shared.db import UnitOfWork
from shared.errors import Missing
from shared.ids import uuid7


def replay_dead_letter(uow: UnitOfWork, letter_id: str) -> str:
    """
    Make a dead letter due again, as a new delivery of the same event with all its attempts.

    Returns:
        Id of the delivery.

    Raises:
        Missing: There is no such dead letter, or it was replayed already.
    """
    delivery = uuid7()
    task = dead_letters.move_back(uow.session, letter_id, delivery)
    if task is None:
        raise Missing(
            f"There is no dead letter {letter_id} in this project.", code="dead_letter_not_found"
        )
    uow.audit("dead_letter.replayed", letter_id, facts={"task": task, "delivery": str(delivery)})
    return str(delivery)
