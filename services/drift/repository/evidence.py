"""The feeds that monitors fold, and the routes that say which release is live."""

from __future__ import annotations

from sqlalchemy import Row, text

from services.drift.domain import Metric, Observation
from services.drift.repository.monitors import MonitorRow
from shared.cursor import Cursor
from shared.db import UnitOfWork
from shared.spine import feeds

_BATCH = 500
_OF_THE_RELEASE = "workload_id = :workload_id AND assigned_release = :release_id"
# The cache's and a fallback's answers say nothing about the release's speed and length.
_OWN_ANSWERS = f"{_OF_THE_RELEASE} AND status = 'ok' AND NOT cached AND NOT fallback"


def position_now(uow: UnitOfWork) -> Cursor:
    """Before all rows of transactions that begin later than this one."""
    xid = uow.session.execute(text("SELECT CAST(pg_current_xact_id() AS text)")).scalar_one()
    return Cursor(int(xid), 0)


def find_live(uow: UnitOfWork, workload_id: str) -> str | None:
    """The release that is live now."""
    return uow.session.execute(
        text("SELECT live_release FROM releases.routes_v1 WHERE workload_id = :workload_id"),
        {"workload_id": workload_id},
    ).scalar_one_or_none()


def name_workloads(uow: UnitOfWork) -> dict[str, str]:
    """Names of the project's workloads by id."""
    rows = uow.session.execute(text("SELECT workload_id, name FROM workloads.workloads_v1"))
    return {row.workload_id: row.name for row in rows}


def read(uow: UnitOfWork, monitor: MonitorRow, after: Cursor) -> list[tuple[Observation, Cursor]]:
    """The next observations of the monitor's release, each with the position behind it."""
    is_label = monitor.metric is Metric.FAILURE
    rows, _ = feeds.read(
        uow.session,
        "feedback.outcomes_v1" if is_label else "inference.records_v1",
        after,
        limit=_BATCH,
        where=_OF_THE_RELEASE if is_label else _OWN_ANSWERS,
        parameters={"workload_id": monitor.workload_id, "release_id": monitor.release_id},
    )
    observe = _label if is_label else _answer
    return [(observe(row), Cursor(int(row.xid), int(row.seq))) for row in rows]


def _label(row: Row[tuple[object, ...]]) -> Observation:
    return Observation(success=float(row.success))


def _answer(row: Row[tuple[object, ...]]) -> Observation:
    return Observation(latency_ms=row.latency_ms, tokens=row.output_tokens)
