"""HTTP shapes of monitors and alerts."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel

from services.drift import domain
from services.drift.domain import MonitorState
from services.drift.repository.alerts import AlertRow
from services.drift.repository.monitors import MonitorRow
from shared.statistics.codec import from_json, to_json


class MonitorView(BaseModel):
    """
    A monitor of one metric of a live release.

    While it collects its baseline, `values` counts up to `baseline_outcomes`; afterwards it counts
    the values since the baseline, and `statistic` raises the alert when it reaches `threshold`.
    """

    id: str
    object: Literal["monitor"] = "monitor"
    workload_id: str
    workload: str
    release_id: str
    metric: str
    state: str
    values: int
    baseline_outcomes: int
    baseline: dict[str, Any] | None
    statistic: float
    threshold: float
    guarantee: str
    policy_version: int
    created_at: int
    closed_at: int | None

    @classmethod
    def of(cls, row: MonitorRow, names: dict[str, str]) -> Self:
        state = from_json(MonitorState, row.detector)
        return cls(
            id=row.monitor_id,
            workload_id=row.workload_id,
            workload=names[row.workload_id],
            release_id=row.release_id,
            metric=row.metric,
            state=row.state,
            values=len(state.collected) if state.baseline is None else state.n,
            baseline_outcomes=state.policy.baseline_outcomes,
            baseline=None if state.baseline is None else to_json(state.baseline),
            statistic=domain.statistic(state),
            threshold=state.policy.mean_run_length,
            guarantee=domain.guarantee(state.policy),
            policy_version=row.policy_version,
            created_at=int(row.created_at.timestamp()),
            closed_at=int(row.closed_at.timestamp()) if row.closed_at else None,
        )


class AlertView(BaseModel):
    """
    An alarm and its evidence.

    `requests_until_alert` counts the requests with evidence from where the change most probably
    began to the alert.
    """

    id: str
    object: Literal["alert"] = "alert"
    workload_id: str
    workload: str
    release_id: str
    monitor_id: str
    metric: str
    requests_until_alert: int
    may_retrain: bool
    guarantee: str
    evidence: dict[str, Any]
    policy_version: int
    created_at: int

    @classmethod
    def of(cls, row: AlertRow, names: dict[str, str]) -> Self:
        alert = from_json(domain.Alert, row.evidence)
        return cls(
            id=row.alert_id,
            workload_id=row.workload_id,
            workload=names[row.workload_id],
            release_id=row.release_id,
            monitor_id=row.monitor_id,
            metric=row.metric,
            requests_until_alert=alert.onset_observations_ago,
            may_retrain=alert.may_retrain,
            guarantee=alert.guarantee,
            evidence=row.evidence,
            policy_version=row.policy_version,
            created_at=int(row.created_at.timestamp()),
        )
