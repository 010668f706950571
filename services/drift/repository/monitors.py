"""Monitors: one per metric of a workload's live release."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Row, text

from services.drift.domain import Metric
from shared.db import UnitOfWork

State = Literal["baseline", "watching", "alarmed", "closed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorRow:
    """
    Attributes:
        detector: The pure state as JSON, with the policy it was begun by.
        start: Where it began in its feed; `cursor` is how far it has folded it.
    """

    monitor_id: str
    workload_id: str
    release_id: str
    metric: Metric
    state: State
    policy_version: int
    detector: dict[str, object]
    start: str
    cursor: str
    created_at: datetime
    closed_at: datetime | None


_COLUMNS = ", ".join(field.name for field in fields(MonitorRow))
_SELECT = f"SELECT {_COLUMNS} FROM drift.monitors"  # noqa: S608 - field names


def lock_workload(uow: UnitOfWork, workload_id: str) -> None:
    """Let the monitors of a workload be replaced by one transaction at a time."""
    uow.session.execute(
        text("SELECT pg_advisory_xact_lock(hashtext('drift ' || :project), hashtext(:workload))"),
        {"project": uow.project, "workload": workload_id},
    )


def insert(
    uow: UnitOfWork,
    *,
    monitor_id: str,
    workload_id: str,
    release_id: str,
    metric: Metric,
    state: State,
    policy_version: int,
    detector: Mapping[str, object],
    position: str,
) -> None:
    uow.session.execute(
        text("""
            INSERT INTO drift.monitors
                (project, monitor_id, workload_id, release_id, metric, state, policy_version,
                 detector, start, cursor)
            VALUES (:project, :monitor_id, :workload_id, :release_id, :metric, :state,
                    :policy_version, CAST(:detector AS jsonb), :position, :position)
        """),
        {
            "project": uow.project,
            "monitor_id": monitor_id,
            "workload_id": workload_id,
            "release_id": release_id,
            "metric": metric,
            "state": state,
            "policy_version": policy_version,
            "detector": json.dumps(detector),
            "position": position,
        },
    )


def find_locked(uow: UnitOfWork, monitor_id: str) -> MonitorRow | None:
    """The monitor, locked until the end of the transaction."""
    row = uow.session.execute(
        text(f"{_SELECT} WHERE monitor_id = :monitor_id FOR UPDATE"), {"monitor_id": monitor_id}
    ).one_or_none()
    return None if row is None else _row(row)


def list_open(uow: UnitOfWork, workload_id: str) -> list[MonitorRow]:
    """Those of a workload's live release."""
    rows = uow.session.execute(
        text(f"{_SELECT} WHERE workload_id = :workload_id AND state <> 'closed' FOR UPDATE"),
        {"workload_id": workload_id},
    )
    return [_row(row) for row in rows]


def find_last(uow: UnitOfWork, release_id: str, metric: Metric) -> MonitorRow | None:
    """The newest monitor that a release ever had for a metric."""
    row = uow.session.execute(
        text(
            f"{_SELECT} WHERE release_id = :release_id AND metric = :metric "
            "ORDER BY monitor_id DESC LIMIT 1"
        ),
        {"release_id": release_id, "metric": metric},
    ).one_or_none()
    return None if row is None else _row(row)


def save(
    uow: UnitOfWork, monitor_id: str, *, state: State, detector: Mapping[str, object], cursor: str
) -> None:
    """State and cursor, written together; the row is locked by `find_locked`."""
    uow.session.execute(
        text("""
            UPDATE drift.monitors
            SET state = :state, detector = CAST(:detector AS jsonb), cursor = :cursor
            WHERE monitor_id = :monitor_id
        """),
        {
            "monitor_id": monitor_id,
            "state": state,
            "detector": json.dumps(detector),
            "cursor": cursor,
        },
    )


def close(uow: UnitOfWork, monitor_id: str) -> None:
    uow.session.execute(
        text("""
            UPDATE drift.monitors SET state = 'closed', closed_at = now()
            WHERE monitor_id = :monitor_id
        """),
        {"monitor_id": monitor_id},
    )


def list_newest(
    uow: UnitOfWork, workload_id: str | None, after: str | None, limit: int
) -> list[MonitorRow]:
    """At most `limit + 1` monitors, newest first, older than *after*."""
    rows = uow.session.execute(
        text(
            _SELECT
            + """ WHERE (CAST(:workload_id AS text) IS NULL OR workload_id = :workload_id)
                AND (CAST(:after AS text) IS NULL OR monitor_id < :after)
                ORDER BY monitor_id DESC LIMIT :limit"""
        ),
        {"workload_id": workload_id, "after": after, "limit": limit + 1},
    )
    return [_row(row) for row in rows]


def _row(row: Row[Any]) -> MonitorRow:
    columns = dict(row._mapping)  # noqa: SLF001 - the documented way to columns by name
    return MonitorRow(**{**columns, "metric": Metric(columns["metric"])})
