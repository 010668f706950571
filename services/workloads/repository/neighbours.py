"""What the loop reads from other rooms, through the views they publish."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text

from shared.db import UnitOfWork
from shared.errors import Missing


@dataclass(frozen=True, slots=True)
class Live:
    """What a workload's users get now.

    Attributes:
        release_id: The live release.
        model: Its model.
        training_digest: Rows that taught the model; None when it is a base.
    """

    release_id: str
    model: str
    training_digest: str | None


def load_live(uow: UnitOfWork, workload_id: str) -> Live:
    """
    Raises:
        Missing: The workload has no live release yet, which passes within a moment.
    """
    row = uow.session.execute(
        text("""
            SELECT r.live_release, r.live_model, d.training_digest
            FROM releases.routes_v1 r
            LEFT JOIN releases.models_v1 m
                ON m.project = r.project AND m.model_id = r.live_model
            LEFT JOIN ingestion.datasets_v1 d
                ON d.project = m.project AND d.dataset_id = m.dataset_id
            WHERE r.workload_id = :workload_id
        """),
        {"workload_id": workload_id},
    ).one_or_none()
    if row is None:
        raise Missing(
            "The workload has no live release yet; repeat in a moment.", code="no_live_release"
        )
    return Live(*row)


def find_base_of(uow: UnitOfWork, model: str) -> str | None:
    """The base of a tuned model of this project; None when there is no such model."""
    return uow.session.execute(
        text("SELECT base FROM releases.models_v1 WHERE model_id = :model AND deleted_at IS NULL"),
        {"model": model},
    ).scalar_one_or_none()
