"""Statements on `spine.events` for readers; `shared.spine.feeds` reads forward."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.cursor import Cursor


def find_position(session: Session, event_id: str) -> Cursor | None:
    """Where an event of this project is in the feed."""
    row = session.execute(
        text("SELECT CAST(xid AS text), seq FROM spine.events WHERE id = :id"), {"id": event_id}
    ).one_or_none()
    return None if row is None else Cursor(int(row[0]), row[1])
