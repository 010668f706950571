"""Statements on `spine.events`, for readers of this room."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

from services.delivery.domain import Event
from shared.cursor import Cursor
from shared.spine import feeds


def find_position(session: Session, event_id: str) -> Cursor | None:
    """Where an event of this project is in the feed."""
    row = session.execute(
        text("SELECT CAST(xid AS text), seq FROM spine.events WHERE id = :id"), {"id": event_id}
    ).one_or_none()
    return None if row is None else Cursor(int(row[0]), row[1])


def list_next(session: Session, project: str, cursor: Cursor, limit: int) -> list[Event]:
    """At most *limit* events of a project behind *cursor*, in order; as the role `spine`."""
    found, _ = feeds.read(
        session,
        "spine.events",
        cursor,
        limit=limit,
        where="project = :project",
        parameters={"project": project},
    )
    return [Event(Cursor(int(row.xid), row.seq), row.type, row.envelope) for row in found]
