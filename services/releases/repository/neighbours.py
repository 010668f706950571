"""What releases read from other rooms, through the views they publish."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text

from shared.db import UnitOfWork


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate said about a model."""

    model: str
    workload_id: str | None
    verdict: str


def find_verdict(uow: UnitOfWork, evaluation_id: str) -> Verdict | None:
    """The verdict of an evaluation; None while it runs or when there is no such evaluation."""
    row = uow.session.execute(
        text("""
            SELECT model, workload_id, verdict FROM evaluation.verdicts_v1
            WHERE evaluation_id = :evaluation_id AND verdict IS NOT NULL
        """),
        {"evaluation_id": evaluation_id},
    ).one_or_none()
    return None if row is None else Verdict(*row)


def name_workloads(uow: UnitOfWork) -> dict[str, str]:
    """Names of the project's workloads by id."""
    rows = uow.session.execute(text("SELECT workload_id, name FROM workloads.workloads_v1"))
    return {row.workload_id: row.name for row in rows}
