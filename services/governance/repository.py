"""Statements on `spine.audit_entries`, read-only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import text
from sqlalchemy.orm import Session

Order = Literal["asc", "desc"]


@dataclass(frozen=True, slots=True)
class Entry:
    """Who did what to which thing, when and why."""

    id: str
    at: datetime
    actor: str
    action: str
    subject: str
    reason: str
    facts: dict[str, Any]
    correlation_id: str
    causation_id: str


@dataclass(frozen=True, slots=True)
class Filter:
    """None matches everything; `action` matches all actions that begin with it."""

    subject: str | None = None
    action: str | None = None
    actor: str | None = None
    correlation_id: str | None = None


def find_position(session: Session, entry_id: str) -> int | None:
    """Place of an entry in this project's log."""
    return session.execute(
        text("SELECT seq FROM spine.audit_entries WHERE CAST(id AS text) = :id"), {"id": entry_id}
    ).scalar_one_or_none()


def list_entries(
    session: Session, wanted: Filter, *, after: int | None, order: Order, limit: int
) -> list[Entry]:
    """Entries of this project behind position *after*, in *order*."""
    direction = {"asc": (">", "ASC"), "desc": ("<", "DESC")}[order]
    rows = session.execute(
        text(f"""
            SELECT CAST(id AS text), at, actor, action, subject, reason, facts,
                   correlation_id, causation_id
            FROM spine.audit_entries
            WHERE (CAST(:after AS bigint) IS NULL OR seq {direction[0]} :after)
              AND (CAST(:subject AS text) IS NULL OR subject = :subject)
              AND (CAST(:action AS text) IS NULL OR starts_with(action, :action))
              AND (CAST(:actor AS text) IS NULL OR actor = :actor)
              AND (CAST(:correlation_id AS text) IS NULL OR correlation_id = :correlation_id)
            ORDER BY seq {direction[1]} LIMIT :limit
        """),  # noqa: S608 - the direction is one of two constants
        {
            "after": after,
            "limit": limit,
            "subject": wanted.subject,
            "action": wanted.action,
            "actor": wanted.actor,
            "correlation_id": wanted.correlation_id,
        },
    )
    return [Entry(*row) for row in rows]
