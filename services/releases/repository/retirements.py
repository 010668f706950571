"""Shutdown dates of models, what was announced of them, and which workloads they concern."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date

from sqlalchemy import text

from shared.db import UnitOfWork


@dataclass(frozen=True, slots=True)
class RetirementRow:
    """
    Attributes:
        base: What the model was tuned from; None unless it is a tuned one of this project.
        told: Steps that were announced for this date, in days.
    """

    model: str
    shutdown_date: date
    base: str | None
    told: frozenset[int]


@dataclass(frozen=True, slots=True)
class Dependent:
    """A workload that needs a model."""

    workload_id: str
    name: str


def dates(uow: UnitOfWork) -> dict[str, date]:
    """Shutdown dates as they were set, by model."""
    rows = uow.session.execute(text("SELECT model, shutdown_date FROM releases.retirements"))
    return {row.model: row.shutdown_date for row in rows}


def list_all(uow: UnitOfWork) -> list[RetirementRow]:
    """All of the project, the first to end first."""
    rows = uow.session.execute(
        text("""
            SELECT r.model, r.shutdown_date, m.base,
                   ARRAY(SELECT a.step_days FROM releases.retirement_announcements a
                         WHERE a.project = r.project AND a.model = r.model
                           AND a.shutdown_date = r.shutdown_date) AS told
            FROM releases.retirements r
            LEFT JOIN releases.models m ON m.project = r.project AND m.model_id = r.model
            ORDER BY r.shutdown_date, r.model
        """)
    )
    return [
        RetirementRow(row.model, row.shutdown_date, row.base, frozenset(row.told)) for row in rows
    ]


def put(uow: UnitOfWork, model: str, shutdown_date: date) -> None:
    uow.session.execute(
        text("""
            INSERT INTO releases.retirements (project, model, shutdown_date)
            VALUES (:project, :model, :shutdown_date)
            ON CONFLICT (project, model) DO UPDATE SET shutdown_date = excluded.shutdown_date
        """),
        {"project": uow.project, "model": model, "shutdown_date": shutdown_date},
    )


def delete(uow: UnitOfWork, model: str) -> date | None:
    """The date that is not set any more; None when there was none."""
    return uow.session.execute(
        text("DELETE FROM releases.retirements WHERE model = :model RETURNING shutdown_date"),
        {"model": model},
    ).scalar_one_or_none()


def mark_announced(uow: UnitOfWork, model: str, shutdown_date: date, step_days: int) -> None:
    uow.session.execute(
        text("""
            INSERT INTO releases.retirement_announcements
                (project, model, shutdown_date, step_days)
            VALUES (:project, :model, :shutdown_date, :step_days)
        """),
        {
            "project": uow.project,
            "model": model,
            "shutdown_date": shutdown_date,
            "step_days": step_days,
        },
    )


def list_dependents(uow: UnitOfWork) -> dict[str, list[Dependent]]:
    """
    Workloads by the model they need: it, or a model tuned from it, is live before their traffic,
    or they answer to its name.
    """
    rows = uow.session.execute(
        text("""
            SELECT t.model, r.workload_id, r.name
            FROM releases.retirements t
            JOIN releases.routes_v1 r ON r.project = t.project
            LEFT JOIN releases.models m ON m.project = r.project AND m.model_id = r.live_model
            WHERE t.model IN (r.live_model, m.base, r.name) OR t.model = ANY(r.aliases)
            ORDER BY r.name
        """)
    )
    found: defaultdict[str, list[Dependent]] = defaultdict(list)
    for row in rows:
        found[row.model].append(Dependent(row.workload_id, row.name))
    return found
