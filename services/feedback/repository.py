"""Every statement on the tables of feedback, and its look into captured contents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, func, text, update
from sqlmodel import col, select

from services.feedback.domain import Outcome
from services.feedback.models import EntryRow
from shared.db import UnitOfWork
from shared.errors import Missing
from shared.receipts import Receipt


def add_entry(uow: UnitOfWork, entry: EntryRow) -> None:
    """Store what was said."""
    uow.session.add(entry)
    uow.session.flush()


def load_entry(uow: UnitOfWork, feedback_id: str) -> EntryRow:
    """
    Raises:
        Missing: There is no such feedback.
    """
    entry = uow.session.get(EntryRow, feedback_id)
    if entry is None:
        raise Missing(f"There is no feedback '{feedback_id}'.", code="feedback_not_found")
    return entry


def record_outcome(
    uow: UnitOfWork, inference_id: str, receipt: Receipt | EntryRow, outcome: Outcome
) -> bool:
    """Record the first outcome of an inference; False when one stands already."""
    inserted = uow.session.execute(
        text("""
            INSERT INTO feedback.outcomes
                (project, inference_id, workload_id, assigned_release, arm, success, source)
            VALUES (:project, :inference_id, :workload_id, :release_id, :arm, :success, :source)
            ON CONFLICT DO NOTHING RETURNING seq
        """),
        {
            "project": uow.project,
            "inference_id": inference_id,
            "workload_id": receipt.workload_id,
            "release_id": receipt.release_id,
            "arm": receipt.arm,
            "success": int(outcome.success),
            "source": outcome.source,
        },
    ).one_or_none()
    return inserted is not None


def find_content(uow: UnitOfWork, inference_id: str) -> Row[Any] | None:
    """What was asked and answered; None while it is not shipped, or was not captured."""
    return uow.session.execute(
        text("SELECT messages, answer FROM inference.contents_v1 WHERE inference_id = :id"),
        {"id": inference_id},
    ).one_or_none()


def count_waiting(uow: UnitOfWork, workload_id: str) -> int:
    """Corrections of the workload that no cycle has learned from."""
    return uow.session.exec(
        select(func.count()).where(
            EntryRow.workload_id == workload_id,
            col(EntryRow.correction).is_not(None),
            col(EntryRow.curated_by).is_(None),
        )
    ).one()


def list_waiting(uow: UnitOfWork, workload_id: str, limit: int) -> Sequence[EntryRow]:
    """The waiting corrections, oldest first; of several on one answer, the latest."""
    newest = (
        select(func.max(EntryRow.seq))
        .where(
            EntryRow.workload_id == workload_id,
            col(EntryRow.correction).is_not(None),
            col(EntryRow.curated_by).is_(None),
        )
        .group_by(EntryRow.inference_id)
    )
    return uow.session.exec(
        select(EntryRow)
        .where(col(EntryRow.seq).in_(newest))
        .order_by(col(EntryRow.seq))
        .limit(limit)
    ).all()


def mark_curated(uow: UnitOfWork, inference_ids: Sequence[str], cycle_id: str) -> None:
    """These inferences' corrections are learned from by *cycle_id*."""
    uow.session.execute(
        update(EntryRow)
        .where(col(EntryRow.inference_id).in_(inference_ids), col(EntryRow.curated_by).is_(None))
        .values(curated_by=cycle_id)
    )
