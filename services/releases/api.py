"""Routes of models (OpenAI's) and releases (ours). Ids of models may contain any character."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query

from services.releases.repository import decisions, neighbours, releases, retirements
from services.releases.repository import permissions as permission_rows
from services.releases.schemas import (
    CreatePermissions,
    CreateRelease,
    DecisionList,
    DecisionView,
    ModelDeleted,
    ModelList,
    ModelObject,
    PermissionDeleted,
    PermissionObject,
    RecomputationView,
    ReleaseView,
    RetirementList,
    RetirementRemoved,
    RetirementView,
    RollBack,
    SetRetirement,
)
from services.releases.service import canary, models, permissions, retirement, settle, start
from shared.backpressure import Addition
from shared.http import Unit, authorised
from shared.idempotency import CreatingRoute, Creation
from shared.keys import Caller
from shared.pages import Page, page_of
from shared.policy import load_workload

router = APIRouter(route_class=CreatingRoute)

ModelReader = Annotated[Caller, authorised("models:read")]
ModelWriter = Annotated[Caller, authorised("models:write")]
Reader = Annotated[Caller, authorised("releases:read")]
Writer = Annotated[Caller, authorised("releases:write")]
Limit = Annotated[int, Query(ge=1, le=100)]
ModelName = Annotated[str, Path(min_length=1, max_length=300)]

_PERMISSIONS = "/v1/fine_tuning/checkpoints/{model:path}/permissions"


@router.get("/v1/models", tags=["models"])
def list_models(_: ModelReader, uow: Unit) -> ModelList:
    """Bases of this installation, tuned models of the project, and its workloads by name."""
    dates = retirements.dates(uow)
    return ModelList(data=[ModelObject.of(model, dates) for model in models.list_answering(uow)])


@router.get("/v1/models/{model:path}", tags=["models"])
def retrieve_model(_: ModelReader, uow: Unit, model: str) -> ModelObject:
    """One model, or what answers under a workload's name or alias."""
    return ModelObject.of(models.load_answering(uow, model), retirements.dates(uow))


@router.delete("/v1/models/{model:path}", tags=["models"])
def delete_model(_: ModelWriter, uow: Unit, model: str) -> ModelDeleted:
    """Delete a tuned model that no release needs."""
    models.delete_model(uow, model)
    return ModelDeleted(id=model)


@router.post(_PERMISSIONS, tags=["models"])
def create_permissions(
    _: ModelWriter, uow: Unit, model: str, body: CreatePermissions
) -> Page[PermissionObject]:
    """Let other projects of this installation use a tuned model or checkpoint."""
    rows = permissions.permit(uow, model, body.project_ids)
    return page_of([PermissionObject.of(row) for row in rows], len(rows))


@router.get(_PERMISSIONS, tags=["models"])
def list_permissions(
    _: ModelReader,
    uow: Unit,
    model: str,
    after: str | None = None,
    limit: Limit = 10,
    order: Literal["ascending", "descending"] = "descending",
    project_id: str | None = None,
) -> Page[PermissionObject]:
    """Who else may use it."""
    models.load_model(uow, model)
    rows = permission_rows.list_page(
        uow,
        model,
        after=after,
        limit=limit,
        newest_first=order == "descending",
        grantee=project_id,
    )
    return page_of([PermissionObject.of(row) for row in rows], limit)


@router.delete(f"{_PERMISSIONS}/{{permission_id}}", tags=["models"])
def withdraw_permission(
    _: ModelWriter, uow: Unit, model: str, permission_id: str
) -> PermissionDeleted:
    """Let a project not use it any more."""
    permissions.withdraw(uow, model, permission_id)
    return PermissionDeleted(id=permission_id)


@router.put("/api/v1/retirements/{model:path}", tags=["releases"])
def set_retirement(_: Writer, uow: Unit, model: ModelName, body: SetRetirement) -> RetirementView:
    """Say on which day a model ends; any name will do, also of one that is served elsewhere."""
    return RetirementView.of(retirement.set_shutdown_date(uow, model, body.shutdown_date))


@router.get("/api/v1/retirements", tags=["releases"])
def list_retirements(
    _: Reader, uow: Unit, within_days: Annotated[int | None, Query(ge=0, le=36_500)] = None
) -> RetirementList:
    """Which models end, the first one first, and which workloads need them."""
    found = retirement.list_retirements(uow, within_days)
    return RetirementList(data=[RetirementView.of(each) for each in found])


@router.delete("/api/v1/retirements/{model:path}", tags=["releases"])
def remove_retirement(_: Writer, uow: Unit, model: ModelName) -> RetirementRemoved:
    """Say that a model does not end."""
    retirement.remove_retirement(uow, model)
    return RetirementRemoved(model=model)


@router.post("/api/v1/releases", tags=["releases"], status_code=201)
def create_release(_: Writer, uow: Addition, body: CreateRelease) -> ReleaseView:
    """Put a model before a workload's traffic: gated now, a canary once it is loaded."""
    row = start.request_release(
        uow,
        workload=body.workload,
        model=body.model,
        evaluation_id=body.evaluation_id,
        override_reason=body.override.reason if body.override else None,
    )
    return ReleaseView.of(row, neighbours.name_workloads(uow), uow.now)


@router.get("/api/v1/releases", tags=["releases"])
def list_releases(
    _: Reader,
    uow: Unit,
    workload: str | None = None,
    after: str | None = None,
    limit: Limit = 20,
) -> Page[ReleaseView]:
    """Releases, newest first."""
    workload_id = load_workload(uow.session, workload).workload_id if workload else None
    rows = releases.list_newest(uow, workload_id, after, limit)
    names = neighbours.name_workloads(uow)
    return page_of([ReleaseView.of(row, names, uow.now) for row in rows], limit)


@router.get("/api/v1/releases/{release_id}", tags=["releases"])
def retrieve_release(_: Reader, uow: Unit, release_id: str) -> ReleaseView:
    """One release with its evidence so far."""
    row = releases.load(uow, release_id)
    return ReleaseView.of(row, neighbours.name_workloads(uow), uow.now)


@router.get("/api/v1/releases/{release_id}/decisions", tags=["releases"])
def list_decisions(_: Reader, uow: Unit, release_id: str) -> DecisionList:
    """What was decided about a release, by whom and on which evidence, oldest first."""
    releases.load(uow, release_id)
    return DecisionList(data=[DecisionView.of(row) for row in decisions.list_all(uow, release_id)])


@router.get("/api/v1/releases/{release_id}/recomputation", tags=["releases"])
def recompute_release(_: Reader, uow: Unit, release_id: str) -> RecomputationView:
    """Fold the canary's evidence again from the feeds and compare."""
    return RecomputationView.of(release_id, canary.recompute(uow, release_id))


@router.post("/api/v1/releases/{release_id}/rollback", tags=["releases"])
def roll_back_release(_: Writer, uow: Creation, release_id: str, body: RollBack) -> ReleaseView:
    """Take a release back; a live one gives way to the one before it."""
    row = settle.roll_back(uow, release_id, body.reason)
    return ReleaseView.of(row, neighbours.name_workloads(uow), uow.now)
