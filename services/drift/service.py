"""Use cases of monitors: begin them when a release becomes live, fold their feeds, raise alerts."""

from __future__ import annotations

from services.drift import domain
from services.drift.domain import Alert, DriftPolicy, Metric, MonitorState
from services.drift.repository import alerts, evidence, monitors
from services.drift.repository.monitors import MonitorRow
from shared.contracts.drift import DriftDetected, FoldMonitor
from shared.contracts.releases import ReleasePromoted
from shared.cursor import Cursor
from shared.db import UnitOfWork
from shared.ids import new_id
from shared.policy import Policy, load_workload
from shared.spine import schedules
from shared.statistics.codec import from_json, to_json

# An alert starts hours of work; a second's delay is nothing beside it, and folds cost a task each.
FOLD_SECONDS = 1.0


def pin_baseline(uow: UnitOfWork, event: ReleasePromoted) -> None:
    """
    Watch the release that has become live, and stop watching the one before it.

    A message about a release that is not live any more, or that is watched already, changes
    nothing. A release that is live again keeps the baseline it had.
    """
    monitors.lock_workload(uow, event.workload_id)
    if evidence.find_live(uow, event.workload_id) != event.release_id:
        return
    watched = monitors.list_open(uow, event.workload_id)
    if any(monitor.release_id == event.release_id for monitor in watched):
        return
    for monitor in watched:
        monitors.close(uow, monitor.monitor_id)
        schedules.stop(uow, FoldMonitor(monitor_id=monitor.monitor_id))
    workload = load_workload(uow.session, event.workload_id)
    for metric in Metric:
        _begin(uow, event, metric, workload.policy, workload.policy_version)


def fold_monitor(uow: UnitOfWork, monitor_id: str) -> None:
    """
    Fold what is new in the monitor's feed; state, cursor and alert commit together.

    A monitor that has raised its alert or is closed ends the schedule that asked.
    """
    monitor = monitors.find_locked(uow, monitor_id)
    if monitor is None or monitor.state not in {"baseline", "watching"}:
        schedules.stop(uow, FoldMonitor(monitor_id=monitor_id))
        return
    before = Cursor.parse(monitor.cursor)
    state, cursor, alert = _fold_new(uow, monitor, before)
    if cursor == before:
        return
    phase: monitors.State = "baseline" if state.baseline is None else "watching"
    monitors.save(
        uow,
        monitor_id,
        state="alarmed" if alert else phase,
        detector=to_json(state),
        cursor=str(cursor),
    )
    if monitor.state == "baseline" and phase == "watching":
        uow.audit("baseline.pinned", monitor_id, facts={"baseline": to_json(state.baseline)})
    if alert:
        _raise_alert(uow, monitor, alert, str(cursor))


def _begin(
    uow: UnitOfWork, event: ReleasePromoted, metric: Metric, policy: Policy, version: int
) -> None:
    earlier = monitors.find_last(uow, event.release_id, metric)
    state = _first_state(metric, policy, earlier)
    monitor_id = new_id("mon")
    monitors.insert(
        uow,
        monitor_id=monitor_id,
        workload_id=event.workload_id,
        release_id=event.release_id,
        metric=metric,
        state="baseline" if state.baseline is None else "watching",
        policy_version=version,
        detector=to_json(state),
        position=str(evidence.position_now(uow)),
    )
    schedules.every(uow, FOLD_SECONDS, FoldMonitor(monitor_id=monitor_id))
    facts = {"metric": metric, "release_id": event.release_id}
    uow.audit("monitor.begun", monitor_id, facts=facts)


def _first_state(metric: Metric, policy: Policy, earlier: MonitorRow | None) -> MonitorState:
    rules = DriftPolicy(
        mean_run_length=policy.drift.mean_run_length,
        baseline_outcomes=policy.drift.baseline_outcomes,
    )
    if earlier is not None:
        known = from_json(MonitorState, earlier.detector)
        # A baseline taken anew after a drift would call the drifted state normal.
        if known.baseline is not None:
            return domain.restart(known)
    return domain.begin(metric, rules)


def _fold_new(
    uow: UnitOfWork, monitor: MonitorRow, cursor: Cursor
) -> tuple[MonitorState, Cursor, Alert | None]:
    """The state after the next rows, up to the one that raises an alert."""
    state = from_json(MonitorState, monitor.detector)
    for observation, position in evidence.read(uow, monitor, cursor):
        state, cursor = domain.fold(state, observation), position
        alert = domain.decide(state)
        if alert is not None:
            return state, cursor, alert
    return state, cursor, None


def _raise_alert(uow: UnitOfWork, monitor: MonitorRow, alert: Alert, cursor: str) -> None:
    alert_id = new_id("alert")
    alerts.insert(uow, alert_id, monitor, evidence=to_json(alert), cursor=cursor)
    schedules.stop(uow, FoldMonitor(monitor_id=monitor.monitor_id))
    reason = (
        f"{alert.metric}: the rate of '{alert.event}' rose from {alert.baseline_rate:.2f} to "
        f"{alert.current_rate:.2f}."
    )
    uow.audit("drift.detected", alert_id, reason=reason, facts={"evidence": to_json(alert)})
    uow.emit(
        DriftDetected(
            alert_id=alert_id,
            monitor_id=monitor.monitor_id,
            workload_id=monitor.workload_id,
            release_id=monitor.release_id,
            metric=alert.metric,
            statistic=alert.statistic,
            threshold=alert.threshold,
            baseline_outcomes=alert.baseline_n,
            baseline_rate=alert.baseline_rate,
            outcomes_since_baseline=alert.observations,
            outcomes_since_onset=alert.onset_observations_ago,
            may_retrain=alert.may_retrain,
        )
    )
