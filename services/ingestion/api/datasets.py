"""HTTP adapter of datasets."""

from __future__ import annotations

from typing import Annotated, Literal, cast

from fastapi import APIRouter, Query

from services.ingestion import repository
from services.ingestion.api.shown import findings_of
from services.ingestion.models import DatasetRow
from services.ingestion.schemas import DatasetObject, TokenReportObject
from shared.http import Unit, authorised
from shared.keys import Caller
from shared.pages import Page, page_of
from shared.policy import load_workload

router = APIRouter()


@router.get("/api/v1/datasets")
def list_datasets(
    caller: Annotated[Caller, authorised("datasets:read")],
    uow: Unit,
    workload: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Page[DatasetObject]:
    workload_id = load_workload(uow.session, workload).workload_id if workload else None
    rows = repository.list_datasets(uow, workload_id=workload_id, after=after, limit=limit)
    return page_of([_dataset(row) for row in rows], limit)


@router.get("/api/v1/datasets/{dataset_id}")
def retrieve_dataset(
    dataset_id: str, caller: Annotated[Caller, authorised("datasets:read")], uow: Unit
) -> DatasetObject:
    """A dataset version with what was noticed when it was put together."""
    found = _dataset(repository.load_dataset(uow, dataset_id))
    return found.model_copy(update={"findings": findings_of(uow, dataset_id)})


def _dataset(row: DatasetRow) -> DatasetObject:
    return DatasetObject(
        id=row.id,
        workload_id=row.workload_id,
        state=cast("Literal['sealed', 'refused']", row.state),
        base=row.base,
        requester=row.requester,
        training_digest=row.training_digest,
        validation_digest=row.validation_digest,
        manifest_digest=row.manifest_digest,
        training_rows=row.training_rows,
        validation_rows=row.validation_rows,
        tokens=TokenReportObject(**row.token_report) if row.token_report else None,
        error_code=row.error_code,
        error_message=row.error_message,
        created_at=int(row.created_at.timestamp()),
    )
