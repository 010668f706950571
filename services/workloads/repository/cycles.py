"""Cycles: rows of the loop."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text

from services.workloads.domain import STEP_OF, Cycle, Outcome, Stage
from shared.contracts.workloads import CycleStep
from shared.db import UnitOfWork


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleRow:
    """A cycle and what people ask about it. Times are UTC."""

    cycle: Cycle
    workload: str
    policy_version: int
    step: CycleStep
    since: datetime
    deadline: datetime
    trigger: str
    owner: str
    alert_id: str | None
    created_at: datetime
    closed_at: datetime | None


# Columns of the table that have the name of the field.
_LEARNED = tuple(
    field.name for field in fields(Cycle) if field.name not in {"cycle_id", "workload_id", "needed"}
)
_SELECT = """
    SELECT c.*, c.corrections_needed AS needed, w.name AS workload
    FROM workloads.cycles c JOIN workloads.workloads w USING (project, workload_id)
"""


def insert(
    uow: UnitOfWork,
    cycle: Cycle,
    *,
    trigger: str,
    alert_id: str | None,
    policy_version: int,
    seconds: float,
) -> bool:
    """Whether the cycle is open now; False when the workload has another open one.

    Args:
        uow: The transaction.
        cycle: A fresh one.
        trigger: `drift`, `request` or `schedule`.
        alert_id: The cause, when drift is the trigger.
        policy_version: By which the cycle is carried out to its end.
        seconds: Time for the first step.
    """
    row = uow.session.execute(
        text("""
            INSERT INTO workloads.cycles
                (project, cycle_id, workload_id, policy_version, stage, step, deadline, trigger,
                 owner, alert_id, corrections_needed, corrections)
            VALUES (:project, :cycle_id, :workload_id, :policy_version, :stage, :step,
                    now() + make_interval(secs => :seconds), :trigger, :owner, :alert_id,
                    :needed, :corrections)
            ON CONFLICT DO NOTHING RETURNING cycle_id
        """),
        {
            "project": uow.project,
            "cycle_id": cycle.cycle_id,
            "workload_id": cycle.workload_id,
            "policy_version": policy_version,
            "stage": cycle.stage,
            "step": STEP_OF[cycle.stage],
            "seconds": seconds,
            "trigger": trigger,
            "owner": uow.context.actor,
            "alert_id": alert_id,
            "needed": cycle.needed,
            "corrections": cycle.corrections,
        },
    ).one_or_none()
    return row is not None


def find_locked(uow: UnitOfWork, cycle_id: str) -> CycleRow | None:
    """The cycle; its workload is locked until the end of the transaction."""
    uow.session.execute(
        text("""
            SELECT FROM workloads.workloads WHERE workload_id =
                (SELECT workload_id FROM workloads.cycles WHERE cycle_id = :cycle_id)
            FOR UPDATE
        """),
        {"cycle_id": cycle_id},
    )
    return find(uow, cycle_id)


def find_open(uow: UnitOfWork, workload_id: str) -> CycleRow | None:
    """The workload's open cycle."""
    return _find(uow, "c.workload_id = :id AND c.stage <> 'closed'", workload_id)


def find(uow: UnitOfWork, cycle_id: str) -> CycleRow | None:
    return _find(uow, "c.cycle_id = :id", cycle_id)


def find_last(uow: UnitOfWork, workload_id: str) -> CycleRow | None:
    """The workload's newest cycle."""
    return _find(uow, "c.workload_id = :id ORDER BY c.cycle_id DESC LIMIT 1", workload_id)


def list_newest(uow: UnitOfWork, workload_id: str, after: str | None, limit: int) -> list[CycleRow]:
    """At most `limit + 1` cycles of a workload, newest first, older than *after*."""
    rows = uow.session.execute(
        text(
            _SELECT
            + """ WHERE c.workload_id = :workload_id
                AND (CAST(:after AS text) IS NULL OR c.cycle_id < :after)
                ORDER BY c.cycle_id DESC LIMIT :limit"""
        ),
        {"workload_id": workload_id, "after": after, "limit": limit + 1},
    )
    return [_row(row) for row in rows]


def save(uow: UnitOfWork, cycle: Cycle) -> None:
    """Write what the cycle learned; a closing one keeps the step it was in."""
    uow.session.execute(
        text(f"""
            UPDATE workloads.cycles SET {", ".join(f"{name} = :{name}" for name in _LEARNED)},
                   closed_at = CASE WHEN :is_closed THEN now() END
            WHERE cycle_id = :cycle_id
        """),  # noqa: S608 - names of the fields above
        {
            "cycle_id": cycle.cycle_id,
            "is_closed": cycle.stage is Stage.CLOSED,
            **{name: getattr(cycle, name) for name in _LEARNED},
        },
    )


def begin_step(uow: UnitOfWork, cycle_id: str, step: CycleStep, seconds: float) -> None:
    """Start the clock of *step*, which may take *seconds*."""
    uow.session.execute(
        text("""
            UPDATE workloads.cycles SET step = :step, since = now(),
                   deadline = now() + make_interval(secs => :seconds)
            WHERE cycle_id = :cycle_id
        """),
        {"cycle_id": cycle_id, "step": step, "seconds": seconds},
    )


def _find(uow: UnitOfWork, condition: str, subject: str) -> CycleRow | None:
    row = uow.session.execute(text(f"{_SELECT} WHERE {condition}"), {"id": subject}).one_or_none()
    return None if row is None else _row(row)


def _row(row: Row[Any]) -> CycleRow:
    columns = row._mapping  # noqa: SLF001 - the documented way to columns by name
    cycle = {field.name: columns[field.name] for field in fields(Cycle)}
    cycle["stage"] = Stage(cycle["stage"])
    cycle["outcome"] = Outcome(cycle["outcome"]) if cycle["outcome"] else None
    meta = {field.name: columns[field.name] for field in fields(CycleRow) if field.name != "cycle"}
    return CycleRow(cycle=Cycle(**cycle), **meta)
