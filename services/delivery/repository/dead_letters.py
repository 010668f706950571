"""Statements on `spine.dead_letters`, as the role `app`."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A delivery that was given up, with all that is known about it."""

    id: str
    task: str
    envelope: dict[str, Any]
    reason: str
    starts: int
    created_at: datetime
    buried_at: datetime


def list_from(session: Session, after: str | None, limit: int) -> list[DeadLetter]:
    """Dead letters of this project, latest burial first; none when *after* is unknown."""
    rows = session.execute(
        text("""
            SELECT CAST(id AS text), task, envelope, reason, starts, created_at, buried_at
            FROM spine.dead_letters
            WHERE CAST(:after AS text) IS NULL OR (buried_at, id) < (
                SELECT last.buried_at, last.id FROM spine.dead_letters AS last
                WHERE CAST(last.id AS text) = :after)
            ORDER BY buried_at DESC, id DESC LIMIT :limit
        """),
        {"after": after, "limit": limit},
    )
    return [DeadLetter(*row) for row in rows]


def move_back(session: Session, letter_id: str, delivery_id: uuid.UUID) -> str | None:
    """Make a dead letter a due delivery again; returns its task, None when there is none."""
    return session.execute(
        text("""
            WITH gone AS (
                DELETE FROM spine.dead_letters WHERE CAST(id AS text) = :letter RETURNING *)
            INSERT INTO spine.deliveries (id, project, queue, task, envelope, lane)
            SELECT :delivery, project, queue, task, envelope, lane FROM gone RETURNING task
        """),
        {"letter": letter_id, "delivery": delivery_id},
    ).scalar_one_or_none()
