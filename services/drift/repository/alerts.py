"""Alerts: appended, never changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from services.drift.repository.monitors import MonitorRow
from shared.db import UnitOfWork


@dataclass(frozen=True, slots=True)
class AlertRow:
    """An alert, and the position in the feed of the row that raised it."""

    alert_id: str
    monitor_id: str
    workload_id: str
    release_id: str
    metric: str
    policy_version: int
    evidence: dict[str, object]
    cursor: str
    created_at: datetime


def insert(
    uow: UnitOfWork,
    alert_id: str,
    monitor: MonitorRow,
    *,
    evidence: Mapping[str, object],
    cursor: str,
) -> None:
    uow.session.execute(
        text("""
            INSERT INTO drift.alerts
                (project, alert_id, monitor_id, workload_id, release_id, metric, policy_version,
                 evidence, cursor)
            VALUES (:project, :alert_id, :monitor_id, :workload_id, :release_id, :metric,
                    :policy_version, CAST(:evidence AS jsonb), :cursor)
        """),
        {
            "project": uow.project,
            "alert_id": alert_id,
            "monitor_id": monitor.monitor_id,
            "workload_id": monitor.workload_id,
            "release_id": monitor.release_id,
            "metric": monitor.metric,
            "policy_version": monitor.policy_version,
            "evidence": json.dumps(evidence),
            "cursor": cursor,
        },
    )


def list_newest(
    uow: UnitOfWork, workload_id: str | None, after: str | None, limit: int
) -> list[AlertRow]:
    """At most `limit + 1` alerts, newest first, older than *after*."""
    rows = uow.session.execute(
        text("""
            SELECT alert_id, monitor_id, workload_id, release_id, metric, policy_version, evidence,
                   cursor, created_at
            FROM drift.alerts
            WHERE (CAST(:workload_id AS text) IS NULL OR workload_id = :workload_id)
            AND (CAST(:after AS text) IS NULL OR alert_id < :after)
            ORDER BY alert_id DESC LIMIT :limit
        """),
        {"workload_id": workload_id, "after": after, "limit": limit + 1},
    )
    return [AlertRow(*row) for row in rows]
