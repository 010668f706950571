"""Statements on the audit log: entries, what they commit to, and what was sealed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from shared.audit.entries import COLUMNS
from shared.cursor import Cursor

Order = Literal["asc", "desc"]


@dataclass(frozen=True, slots=True)
class Entry:
    """
    Who did what to which thing, when and why.

    Attributes:
        commitments: SHA-256 by name of what the entry only commits to.
        personal: That of it which was not erased.
    """

    id: str
    at: datetime
    actor: str
    action: str
    subject: str
    reason: str
    facts: dict[str, Any]
    commitments: dict[str, str]
    personal: dict[str, Any]
    correlation_id: str
    causation_id: str


@dataclass(frozen=True, slots=True)
class Filter:
    """None matches everything; `action` matches all actions that begin with it."""

    subject: str | None = None
    action: str | None = None
    actor: str | None = None
    correlation_id: str | None = None


def find_position(session: Session, entry_id: UUID) -> Cursor | None:
    """Place of an entry in this project's log."""
    row = session.execute(
        text("SELECT CAST(xid AS text), seq FROM spine.audit_entries WHERE id = :id"),
        {"id": entry_id},
    ).one_or_none()
    return Cursor(int(row[0]), row[1]) if row else None


def list_entries(
    session: Session, wanted: Filter, *, after: Cursor | None, order: Order, limit: int
) -> list[Entry]:
    """Entries of this project behind position *after*, in *order* of their transactions."""
    direction = {"asc": (">", "ASC"), "desc": ("<", "DESC")}[order]
    rows = session.execute(
        text(f"""
            SELECT CAST(id AS text), at, actor, action, subject, reason, facts, commitments,
                   (SELECT coalesce(jsonb_object_agg(name, data), '{{}}')
                    FROM spine.audit_disclosures AS d
                    WHERE d.project = e.project AND d.entry = e.id),
                   correlation_id, causation_id
            FROM spine.audit_entries AS e
            WHERE (CAST(:xid AS text) IS NULL
                   OR (xid, seq) {direction[0]} (CAST(CAST(:xid AS text) AS xid8), :seq))
              AND (CAST(:subject AS text) IS NULL OR subject = :subject)
              AND (CAST(:action AS text) IS NULL OR starts_with(action, :action))
              AND (CAST(:actor AS text) IS NULL OR actor = :actor)
              AND (CAST(:correlation_id AS text) IS NULL OR correlation_id = :correlation_id)
            ORDER BY xid {direction[1]}, seq {direction[1]} LIMIT :limit
        """),  # noqa: S608 - the direction is one of two constants
        {
            "xid": str(after.xid) if after else None,
            "seq": after.seq if after else None,
            "limit": limit,
            "subject": wanted.subject,
            "action": wanted.action,
            "actor": wanted.actor,
            "correlation_id": wanted.correlation_id,
        },
    )
    return [Entry(*row) for row in rows]


def delete_disclosures(session: Session, entry_id: UUID) -> list[str]:
    """Forget what an entry commits to; returns the names of what there was."""
    names = session.execute(
        text("DELETE FROM spine.audit_disclosures WHERE entry = :id RETURNING name"),
        {"id": entry_id},
    ).scalars()
    return sorted(names)


def list_sealed(session: Session, *, after: int, limit: int) -> Sequence[Row[Any]]:
    """Sealed entries of this project behind number *after*: `seq`, `leaf`, and the entry."""
    return session.execute(
        text(f"""
            SELECT l.seq, encode(l.hash, 'hex') AS leaf, {COLUMNS}
            FROM spine.audit_leaves AS l JOIN spine.audit_entries AS e ON e.id = l.entry
            WHERE l.seq > :after ORDER BY l.seq LIMIT :limit
        """),  # noqa: S608 - the columns are a constant
        {"after": after, "limit": limit},
    ).all()


def list_checkpoints(
    session: Session, *, after: int | None, order: Order, limit: int
) -> Sequence[Row[Any]]:
    """Signed checkpoints of this project by size, in *order*."""
    direction = {"asc": (">", "ASC"), "desc": ("<", "DESC")}[order]
    return session.execute(
        text(f"""
            SELECT size, root, note, key, created_at FROM spine.audit_checkpoints
            WHERE CAST(:after AS bigint) IS NULL OR size {direction[0]} :after
            ORDER BY size {direction[1]} LIMIT :limit
        """),  # noqa: S608 - the direction is one of two constants
        {"after": after, "limit": limit},
    ).all()
