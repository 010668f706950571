"""Routes of monitors and alerts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from services.drift.repository import alerts, evidence, monitors
from services.drift.schemas import AlertView, MonitorView
from shared.http import Unit, authorised
from shared.keys import Caller
from shared.pages import Page, page_of
from shared.policy import load_workload

router = APIRouter(prefix="/api/v1", tags=["drift"])

Reader = Annotated[Caller, authorised("alerts:read")]
Limit = Annotated[int, Query(ge=1, le=100)]


@router.get("/monitors")
def list_monitors(
    _: Reader,
    uow: Unit,
    workload: str | None = None,
    after: str | None = None,
    limit: Limit = 20,
) -> Page[MonitorView]:
    """Monitors, newest first."""
    workload_id = load_workload(uow.session, workload).workload_id if workload else None
    names = evidence.name_workloads(uow)
    rows = monitors.list_newest(uow, workload_id, after, limit)
    return page_of([MonitorView.of(row, names) for row in rows], limit)


@router.get("/alerts")
def list_alerts(
    _: Reader,
    uow: Unit,
    workload: str | None = None,
    after: str | None = None,
    limit: Limit = 20,
) -> Page[AlertView]:
    """Alerts, newest first."""
    workload_id = load_workload(uow.session, workload).workload_id if workload else None
    names = evidence.name_workloads(uow)
    rows = alerts.list_newest(uow, workload_id, after, limit)
    return page_of([AlertView.of(row, names) for row in rows], limit)
