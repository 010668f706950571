"""The registry: tuned models of a project. Bases belong to the installation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from shared.contracts.finetuning import ModelCreated
from shared.db import UnitOfWork


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A tuned model."""

    model_id: str
    base: str
    gguf_digest: str
    created_at: datetime


def insert(uow: UnitOfWork, created: ModelCreated) -> bool:
    """Whether the model is new."""
    row = uow.session.execute(
        text("""
            INSERT INTO releases.models
                (project, model_id, kind, base, parent, gguf_digest, peft_digest, job_id,
                 dataset_id)
            VALUES (:project, :model_id, :kind, :base, :parent, :gguf_digest, :peft_digest,
                    :job_id, :dataset_id)
            ON CONFLICT DO NOTHING RETURNING model_id
        """),
        {"project": uow.project, **created.model_dump()},
    ).one_or_none()
    return row is not None


def find(uow: UnitOfWork, model_id: str, *, lock: bool = False) -> ModelRow | None:
    """The tuned model of this id, unless it is deleted.

    Args:
        uow: The transaction.
        model_id: `ft:...`.
        lock: Keep it from being deleted or released until the end of the transaction.
    """
    row = uow.session.execute(
        text(f"""
            SELECT model_id, base, gguf_digest, created_at FROM releases.models
            WHERE model_id = :model_id AND deleted_at IS NULL {"FOR UPDATE" if lock else ""}
        """),  # noqa: S608 - one of two constants
        {"model_id": model_id},
    ).one_or_none()
    return None if row is None else ModelRow(*row)


def list_all(uow: UnitOfWork) -> list[ModelRow]:
    """All tuned models that are not deleted, oldest first."""
    rows = uow.session.execute(
        text("""
            SELECT model_id, base, gguf_digest, created_at FROM releases.models
            WHERE deleted_at IS NULL ORDER BY created_at, model_id
        """)
    )
    return [ModelRow(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class RoutedName:
    """
    A name that answers with whatever is live before a workload's traffic.

    Attributes:
        base: Of the live model; itself where that is a base.
    """

    name: str
    live_model: str
    base: str
    since: datetime


def list_names(uow: UnitOfWork) -> list[RoutedName]:
    """Names and aliases of all workloads that have a live release, sorted."""
    rows = uow.session.execute(
        text("""
            SELECT n.name, r.live_model, coalesce(m.base, r.live_model), live.created_at
            FROM releases.routes_v1 r
            JOIN releases.releases live ON live.release_id = r.live_release
            LEFT JOIN releases.models m ON m.project = r.project AND m.model_id = r.live_model
            CROSS JOIN LATERAL unnest(r.aliases || r.name) AS n (name)
            ORDER BY n.name
        """)
    )
    return [RoutedName(*row) for row in rows]


def mark_deleted(uow: UnitOfWork, model_id: str) -> None:
    uow.session.execute(
        text("UPDATE releases.models SET deleted_at = now() WHERE model_id = :model_id"),
        {"model_id": model_id},
    )


def find_use(uow: UnitOfWork, model_id: str) -> str | None:
    """
    A release that needs the model: before the traffic, waiting for it, or the way back from a
    live one.
    """
    return uow.session.execute(
        text("""
            SELECT r.release_id FROM releases.releases r
            WHERE r.model = :model_id AND (
                r.state IN ('gated', 'canary', 'live', 'frozen')
                OR EXISTS (SELECT FROM releases.releases live
                           WHERE live.state = 'live' AND live.control_release = r.release_id))
            LIMIT 1
        """),
        {"model_id": model_id},
    ).scalar_one_or_none()


def list_retired(uow: UnitOfWork, workload_id: str) -> list[str]:
    """Tuned models that the workload released once and no release of the project needs now."""
    rows = uow.session.execute(
        text("""
            SELECT DISTINCT m.model_id FROM releases.releases past
            JOIN releases.models m ON m.project = past.project AND m.model_id = past.model
            WHERE past.workload_id = :workload_id AND NOT EXISTS (
                SELECT FROM releases.releases r
                WHERE r.project = m.project AND r.model = m.model_id AND (
                    r.state IN ('gated', 'canary', 'live', 'frozen')
                    OR EXISTS (SELECT FROM releases.releases live
                               WHERE live.project = r.project AND live.state = 'live'
                               AND live.control_release = r.release_id)))
        """),
        {"workload_id": workload_id},
    )
    return [row.model_id for row in rows]
