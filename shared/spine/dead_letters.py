"""Dead letters that no delivery was before: what came in by another way and cannot be answered."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from sqlalchemy import text

from shared.contracts.envelope import Envelope

if TYPE_CHECKING:
    from shared.db import UnitOfWork


def record(
    uow: UnitOfWork,
    letter: uuid.UUID,
    *,
    queue: str,
    task: str,
    envelope: Envelope,
    reason: str,
    starts: int,
) -> None:
    """
    Keep a message for a person to look at; recording a letter again changes nothing.

    Args:
        uow: Of the role `spine`, in the context of the letter's project.
        letter: Its id, the same for every attempt to record it.
        queue: Where it was found.
        task: What it asked for.
        envelope: The message, as far as it is kept.
        reason: Why nobody can answer it, in a sentence.
        starts: How often it was tried.
    """
    is_new = uow.session.execute(
        text("""
            INSERT INTO spine.dead_letters
                (id, project, queue, task, envelope, reason, starts, created_at)
            VALUES (:id, :project, :queue, :task, CAST(:envelope AS jsonb), :reason, :starts,
                    :created_at)
            ON CONFLICT (id) DO NOTHING RETURNING 1
        """),
        {
            "id": letter,
            "project": uow.project,
            "queue": queue,
            "task": task,
            "envelope": envelope.model_dump_json(),
            "reason": reason,
            "starts": starts,
            "created_at": envelope.time,
        },
    ).one_or_none()
    if is_new:
        uow.audit("message.buried", str(letter), reason=reason, facts={"queue": queue})
