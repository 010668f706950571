"""Statements on `spine.dead_letters`, as the role `app`."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import text
from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """
    A delivery that was given up, with all that is known about it.

    Attributes:
        stored: The envelope as it lies in the row: any JSON value.
    """

    id: str
    queue: str
    task: str
    stored: JsonValue
    reason: str
    last_error: str | None
    starts: int
    created_at: datetime
    buried_at: datetime


_COLUMNS = (
    "CAST(id AS text), queue, task, envelope, reason, last_error, starts, created_at, buried_at"
)


def find(session: Session, letter_id: str) -> DeadLetter | None:
    """The dead letter of this project with that id."""
    row = session.execute(
        text(
            f"SELECT {_COLUMNS} FROM spine.dead_letters "  # noqa: S608 - a constant
            "WHERE CAST(id AS text) = :letter"
        ),
        {"letter": letter_id},
    ).one_or_none()
    return None if row is None else DeadLetter(*row)


def list_from(session: Session, after: str | None, limit: int) -> list[DeadLetter]:
    """Dead letters of this project, latest burial first; none when *after* is unknown."""
    rows = session.execute(
        text(f"""
            SELECT {_COLUMNS} FROM spine.dead_letters
            WHERE CAST(:after AS text) IS NULL OR (buried_at, id) < (
                SELECT last.buried_at, last.id FROM spine.dead_letters AS last
                WHERE CAST(last.id AS text) = :after)
            ORDER BY buried_at DESC, id DESC LIMIT :limit
        """),  # noqa: S608 - the columns are a constant of this module
        {"after": after, "limit": limit},
    )
    return [DeadLetter(*row) for row in rows]


def remove(session: Session, letter_id: str) -> bool:
    """Delete a dead letter; False when there is none."""
    removed = session.execute(
        text("DELETE FROM spine.dead_letters WHERE CAST(id AS text) = :letter RETURNING 1"),
        {"letter": letter_id},
    )
    return removed.one_or_none() is not None


def move_back(session: Session, letter_id: str, delivery_id: uuid.UUID) -> bool:
    """Make a dead letter a due delivery again; False when there is none."""
    moved = session.execute(
        text("""
            WITH gone AS (
                DELETE FROM spine.dead_letters WHERE CAST(id AS text) = :letter RETURNING *)
            INSERT INTO spine.deliveries (id, project, queue, task, envelope, lane)
            SELECT :delivery, project, queue, task, envelope, lane FROM gone RETURNING 1
        """),
        {"letter": letter_id, "delivery": delivery_id},
    )
    return moved.one_or_none() is not None
