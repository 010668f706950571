"""Answers kept under the idempotency keys of their requests, by project.

An answer is stored in the transaction of the effect it reports. So a key without an answer is a
request without an effect, and may be carried out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from shared.errors import InProgress, Invalid

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from shared.db import UnitOfWork

# What a request takes as a rule is far less; one that takes longer answers 409 again.
_LOOK_AGAIN_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Answer:
    """What was sent: HTTP status, and the JSON document as it was written."""

    status: int
    body: str


def claim(uow: UnitOfWork, key: str, digest: str) -> Answer | None:
    """
    Reserve *key* until this transaction ends.

    The lock is tried, not waited for: a repetition must not hold a connection while the first
    request works. It is free only after the first one's commit, so that its answer is seen.

    Args:
        uow: Of the caller's project.
        key: As the caller chose it.
        digest: Of the request.

    Returns:
        What the request was answered before; None when it has to be carried out.

    Raises:
        InProgress: Another transaction holds the key.
        Invalid: The key belongs to another request.
    """
    is_ours = uow.session.execute(
        text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))"),
        {"name": f"idempotency:{uow.project}:{key}"},
    ).scalar_one()
    if not is_ours:
        raise InProgress(code="idempotency_key_in_use", retry_after=_LOOK_AGAIN_SECONDS)
    # A statement of its own: the snapshot of the one above is older than its lock.
    kept = uow.session.execute(
        text(
            "SELECT digest, status, body FROM spine.idempotency_keys "
            "WHERE project = :project AND key = :key"
        ),
        {"project": uow.project, "key": key},
    ).one_or_none()
    if kept is None:
        return None
    if kept.digest != digest:
        raise Invalid(
            "This idempotency key came with another request before; choose a new one for this.",
            code="idempotency_key_reused",
            param="idempotency-key",
        )
    return Answer(kept.status, kept.body)


def keep(uow: UnitOfWork, key: str, digest: str, answer: Answer) -> None:
    """Store the answer to a request whose key this transaction has claimed."""
    uow.session.execute(
        text("""
            INSERT INTO spine.idempotency_keys (project, key, digest, status, body)
            VALUES (:project, :key, :digest, :status, :body)
        """),
        {
            "project": uow.project,
            "key": key,
            "digest": digest,
            "status": answer.status,
            "body": answer.body,
        },
    )


def forget(session: Session, hours: float, limit: int) -> int:
    """
    Delete at most *limit* answers that are older than *hours*, of all projects.

    Args:
        session: Of the role `spine`.
        hours: Age from which a key may be used anew.
        limit: Bounds the transaction.

    Returns:
        How many were deleted.
    """
    deleted = session.execute(
        text("""
            DELETE FROM spine.idempotency_keys WHERE (project, key) IN (
                SELECT project, key FROM spine.idempotency_keys
                WHERE created_at < now() - make_interval(secs => :seconds)
                ORDER BY created_at LIMIT :limit)
            RETURNING 1
        """),
        {"seconds": hours * 3600, "limit": limit},
    ).all()
    return len(deleted)
