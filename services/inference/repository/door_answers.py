"""Answers of the queue door, by the id of their request."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.ids import Project


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What the queue door answered to an id; `fingerprint` says to which question."""

    fingerprint: str
    answer: dict[str, Any]


def find(session: Session, id: str) -> StoredAnswer | None:  # noqa: A002 - column name
    """The stored answer to *id* in the project of the session, if there is one."""
    row = session.execute(
        text("SELECT fingerprint, answer FROM inference.door_answers WHERE id = :id"), {"id": id}
    ).one_or_none()
    return None if row is None else StoredAnswer(row.fingerprint, row.answer)


def record(
    session: Session,
    project: Project,
    id: str,  # noqa: A002 - column name
    answer: StoredAnswer,
) -> StoredAnswer:
    """Store the answer to *id*; the answer that was first is returned."""
    session.execute(
        text("""
            INSERT INTO inference.door_answers (project, id, fingerprint, answer)
            VALUES (:project, :id, :fingerprint, CAST(:answer AS jsonb))
            ON CONFLICT DO NOTHING
        """),
        {
            "project": project,
            "id": id,
            "fingerprint": answer.fingerprint,
            "answer": json.dumps(answer.answer),
        },
    )
    return find(session, id) or answer


def delete_old(session: Session, hours: float) -> int:
    """Forget answers older than *hours*, of all projects (role `spine`); how many there were."""
    result = session.execute(
        text("""
            WITH gone AS (
                DELETE FROM inference.door_answers
                WHERE created_at < now() - make_interval(secs => :seconds) RETURNING 1)
            SELECT count(*) FROM gone
        """),
        {"seconds": hours * 3600},
    )
    return int(result.scalar_one())
