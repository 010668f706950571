"""Routes of workloads and cycles. Workloads are named by id, name or alias."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from services.workloads.repository import cycles as cycle_rows
from services.workloads.repository import workloads as workload_rows
from services.workloads.schemas import (
    CreateWorkload,
    CycleView,
    ReplaceAliases,
    RequestCycle,
    WorkloadView,
)
from services.workloads.service import cycles, workloads
from shared.backpressure import Addition
from shared.errors import Missing
from shared.http import Unit, authorised
from shared.idempotency import CreatingRoute
from shared.keys import Caller
from shared.pages import Page, page_of
from shared.policy import Policy

router = APIRouter(prefix="/api/v1", tags=["workloads"], route_class=CreatingRoute)

Reader = Annotated[Caller, authorised("workloads:read")]
Writer = Annotated[Caller, authorised("workloads:write")]
Limit = Annotated[int, Query(ge=1, le=100)]


@router.post("/workloads", status_code=201)
def create_workload(_: Writer, uow: Addition, body: CreateWorkload) -> WorkloadView:
    """Create a workload; its base model answers under its name within a second or two."""
    row = workloads.create_workload(
        uow,
        name=body.name,
        base_model=body.base_model,
        aliases=body.aliases,
        policy=body.policy,
    )
    return WorkloadView.of(row)


@router.get("/workloads")
def list_workloads(
    _: Reader, uow: Unit, after: str | None = None, limit: Limit = 20
) -> Page[WorkloadView]:
    """Workloads, newest first."""
    rows = workload_rows.list_newest(uow, after, limit)
    return page_of([WorkloadView.of(row) for row in rows], limit)


@router.put("/workloads/{name:path}/policy")
def replace_policy(_: Writer, uow: Unit, name: str, body: Policy) -> WorkloadView:
    """Put a new version of the policy in force; what runs keeps the version it began with."""
    return WorkloadView.of(workloads.replace_policy(uow, name, body))


@router.put("/workloads/{name:path}/aliases")
def replace_aliases(_: Writer, uow: Unit, name: str, body: ReplaceAliases) -> WorkloadView:
    """Say what else the workload answers to, for example the id of an older fine-tune."""
    return WorkloadView.of(workloads.replace_aliases(uow, name, body.aliases))


@router.get("/workloads/{name:path}/cycles")
def list_cycles(
    _: Reader, uow: Unit, name: str, after: str | None = None, limit: Limit = 20
) -> Page[CycleView]:
    """Where is my retraining? Cycles of a workload, newest first."""
    workload = workload_rows.load(uow, name)
    rows = cycle_rows.list_newest(uow, workload.workload_id, after, limit)
    return page_of([CycleView.of(row) for row in rows], limit)


@router.post("/workloads/{name:path}/cycles", status_code=201)
def request_cycle(
    _: Writer, uow: Addition, name: str, body: RequestCycle | None = None
) -> CycleView:
    """Start a retraining by hand; it waits for corrections as the policy says."""
    return CycleView.of(cycles.request_cycle(uow, name, body.reason if body else ""))


@router.get("/workloads/{name:path}")
def retrieve_workload(_: Reader, uow: Unit, name: str) -> WorkloadView:
    """One workload."""
    return WorkloadView.of(workload_rows.load(uow, name))


@router.get("/cycles/{cycle_id}")
def retrieve_cycle(_: Reader, uow: Unit, cycle_id: str) -> CycleView:
    """One cycle."""
    row = cycle_rows.find(uow, cycle_id)
    if row is None:
        raise Missing(f"There is no cycle '{cycle_id}'.", code="cycle_not_found")
    return CycleView.of(row)
