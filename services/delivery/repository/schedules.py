"""Statements on `spine.schedules`, as the role `spine`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session


def take_due(session: Session, limit: int) -> list[dict[str, Any]]:
    """
    Envelopes of due schedules, moved on to their next instant; each to one caller only.

    Periods that passed meanwhile are skipped: a fold that was missed is made up by the next one.
    """
    rows = session.execute(
        text("""
            UPDATE spine.schedules AS s
            SET due_at = s.due_at + s.every * (floor(
                extract(epoch FROM now() - s.due_at) / extract(epoch FROM s.every)) + 1)
            FROM (SELECT project, type, subject FROM spine.schedules WHERE due_at <= now()
                  ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED) AS due
            WHERE (s.project, s.type, s.subject) = (due.project, due.type, due.subject)
            RETURNING s.envelope
        """),
        {"limit": limit},
    )
    return [row[0] for row in rows]
