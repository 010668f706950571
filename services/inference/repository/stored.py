"""Stored completions: what callers asked to keep. Their rows come with the records."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from services.inference.domain.stored import Order

_SELECT = """
    SELECT request, messages, completion, metadata, created_at FROM inference.stored_completions
    WHERE deleted_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class StoredRow:
    """
    Attributes:
        request: UUIDv7; so its order is that of time.
        completion: As it was answered.
    """

    request: UUID
    messages: list[dict[str, Any]]
    completion: dict[str, Any]
    metadata: dict[str, str] | None
    created_at: datetime


def has_arrived(session: Session, request: UUID) -> bool:
    """Whether the row is there, deleted or not."""
    found = session.execute(
        text("SELECT FROM inference.stored_completions WHERE request = :request"),
        {"request": request},
    )
    return found.one_or_none() is not None


def find(session: Session, request: UUID) -> StoredRow | None:
    row = session.execute(
        text(f"{_SELECT} AND request = :request"), {"request": request}
    ).one_or_none()
    return None if row is None else StoredRow(*row)


def list_page(
    session: Session,
    *,
    after: UUID | None,
    limit: int,
    order: Order,
    model: str | None,
    metadata: dict[str, str] | None,
) -> list[StoredRow]:
    """
    Up to `limit + 1` completions.

    Args:
        session: Of the project.
        after: The last one already seen; it may be deleted by now.
        limit: Page size.
        order: By time.
        model: The one that was asked for, or the one that answered.
        metadata: Pairs a completion must have; an empty dict wants those without any.
    """
    conditions = [
        "" if after is None else f"AND request {'>' if order == 'asc' else '<'} :after",
        "" if model is None else "AND :model IN (model, asked_model)",
        "" if metadata is None else _selecting(metadata),
    ]
    rows = session.execute(
        text(f"{_SELECT} {' '.join(conditions)} ORDER BY request {order} LIMIT :limit"),
        {
            "after": after,
            "model": model,
            "metadata": json.dumps(metadata),
            "limit": limit + 1,
        },
    )
    return [StoredRow(*row) for row in rows]


def replace_metadata(session: Session, request: UUID, metadata: dict[str, str] | None) -> None:
    """Nothing is changed where there is no such completion."""
    session.execute(
        text("""
            UPDATE inference.stored_completions SET metadata = CAST(:metadata AS jsonb)
            WHERE request = :request AND deleted_at IS NULL
        """),
        {"request": request, "metadata": None if metadata is None else json.dumps(metadata)},
    )


def delete(session: Session, request: UUID) -> bool:
    """Whether there was a completion to delete; its row stays, so that it cannot come again."""
    deleted = session.execute(
        text("""
            UPDATE inference.stored_completions
            SET messages = NULL, completion = NULL, metadata = NULL, deleted_at = now()
            WHERE request = :request AND deleted_at IS NULL RETURNING request
        """),
        {"request": request},
    )
    return deleted.one_or_none() is not None


def forget_old(session: Session, days: float, limit: int) -> int:
    """Delete at most *limit* rows older than *days*, of all projects (role `spine`); how many."""
    gone = session.execute(
        text("""
            DELETE FROM inference.stored_completions WHERE (project, request) IN (
                SELECT project, request FROM inference.stored_completions
                WHERE created_at < now() - make_interval(secs => :seconds)
                ORDER BY created_at LIMIT :limit)
            RETURNING 1
        """),
        {"seconds": days * 86_400, "limit": limit},
    )
    return len(gone.all())


def _selecting(metadata: dict[str, str]) -> str:
    if not metadata:
        return "AND coalesce(metadata, '{}') = '{}'"
    return "AND metadata @> CAST(:metadata AS jsonb)"
