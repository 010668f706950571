"""Statements on `delivery.subscriptions`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.cursor import Cursor


@dataclass(frozen=True, slots=True)
class Subscription:
    """A queue outside, and what its reader wants."""

    id: str
    project: str
    queue: str
    types: list[str]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Held:
    """A subscription with news, held by this process for a while."""

    id: str
    project: str
    queue: str
    types: list[str]
    cursor: Cursor


_HOLD = text("""
    UPDATE delivery.subscriptions
    SET held_until = clock_timestamp() + make_interval(secs => :seconds)
    WHERE id IN (
        SELECT s.id FROM delivery.subscriptions AS s
        WHERE s.held_until <= clock_timestamp() AND EXISTS (
            SELECT FROM spine.events AS e
            WHERE e.project = s.project AND (e.xid, e.seq) > (s.cursor_xid, s.cursor_seq)
              AND e.xid < pg_snapshot_xmin(pg_current_snapshot()))
        ORDER BY s.held_until LIMIT :limit FOR UPDATE OF s SKIP LOCKED)
    RETURNING id, project, queue, types, CAST(cursor_xid AS text), cursor_seq
""")


def hold_with_news(session: Session, *, seconds: float, limit: int) -> list[Held]:
    """Subscriptions of all projects that have events to get, each to one caller only."""
    rows = session.execute(_HOLD, {"seconds": seconds, "limit": limit})
    return [Held(row[0], row[1], row[2], row[3], Cursor(int(row[4]), row[5])) for row in rows]


def let_go(session: Session, held: Held, cursor: Cursor, *, after_seconds: float = 0.0) -> None:
    """Advance to *cursor*; nobody looks at the subscription again before *after_seconds*."""
    session.execute(
        text("""
            UPDATE delivery.subscriptions
            SET cursor_xid = CAST(:xid AS xid8), cursor_seq = :seq,
                held_until = clock_timestamp() + make_interval(secs => :after)
            WHERE id = :id
              AND (cursor_xid, cursor_seq) = (CAST(:seen_xid AS xid8), :seen_seq)
        """),
        {
            "id": held.id,
            "xid": str(cursor.xid),
            "seq": cursor.seq,
            "seen_xid": str(held.cursor.xid),
            "seen_seq": held.cursor.seq,
            "after": after_seconds,
        },
    )


def insert(session: Session, project: str, id_: str, queue: str, types: Sequence[str]) -> bool:
    """Store a subscription; False when the project has one for this queue."""
    stored = session.execute(
        text("""
            INSERT INTO delivery.subscriptions (id, project, queue, types)
            VALUES (:id, :project, :queue, :types)
            ON CONFLICT (project, queue) DO NOTHING RETURNING 1
        """),
        {"id": id_, "project": project, "queue": queue, "types": list(types)},
    )
    return stored.one_or_none() is not None


def list_all(session: Session) -> list[Subscription]:
    """The project's subscriptions, oldest first; their number is bounded."""
    rows = session.execute(
        text("""
            SELECT id, project, queue, types, created_at FROM delivery.subscriptions
            ORDER BY created_at, id
        """)
    )
    return [Subscription(*row) for row in rows]


def delete(session: Session, id_: str) -> bool:
    """Remove a subscription; False when there is none."""
    gone = session.execute(
        text("DELETE FROM delivery.subscriptions WHERE id = :id RETURNING 1"), {"id": id_}
    )
    return gone.one_or_none() is not None
