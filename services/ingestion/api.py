"""HTTP adapter of ingestion: OpenAI's files, our reports and datasets."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal, cast

from fastapi import APIRouter, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from starlette.datastructures import FormData, UploadFile

from services.ingestion import repository, service
from services.ingestion.models import DatasetRow, FileRow
from services.ingestion.schemas import (
    DatasetObject,
    FileDeleted,
    FileObject,
    FileReport,
    FindingObject,
    TokenReportObject,
)
from services.ingestion.service import Upload
from services.ingestion.settings import IngestionSettings
from shared.backpressure import Room
from shared.blobs import mapped_disk_errors
from shared.errors import Invalid
from shared.http import Unit, authorised, context_of
from shared.ids import Digest
from shared.keys import Caller
from shared.pages import Page, page_of
from shared.policy import load_workload
from shared.process import process_blobs

router = APIRouter()
settings = IngestionSettings()

_UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string"},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {"type": "integer"},
                    },
                }
            }
        },
    }
}


@router.post("/v1/files", openapi_extra=_UPLOAD_BODY)
async def create_file(
    request: Request,
    caller: Annotated[Caller, authorised("files:write")],
    room: Room,
    retries: Annotated[int, Header(alias="x-stainless-retry-count", ge=0)] = 0,
) -> FileObject:
    """
    Upload a file. The key is checked before the body is read; the body goes to disk.

    A request the client marks as repeated gets the file it made before.
    """
    del caller, room  # the dependencies have done their work
    # The form is kept on disk while it arrives.
    with mapped_disk_errors():
        async with request.form(max_files=1, max_fields=8) as form:
            return await _received(request, form, is_repetition=retries > 0)


@router.get("/v1/files")
def list_files(
    caller: Annotated[Caller, authorised("files:read")],
    uow: Unit,
    purpose: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
) -> Page[FileObject]:
    rows = repository.list_files(
        uow, purpose=purpose, after=after, limit=limit, newest_first=order == "desc"
    )
    return page_of([_file(row) for row in rows], limit)


@router.get("/v1/files/{file_id}")
def retrieve_file(
    file_id: str, caller: Annotated[Caller, authorised("files:read")], uow: Unit
) -> FileObject:
    return _file(repository.load_file(uow, file_id))


@router.get("/v1/files/{file_id}/content", response_class=StreamingResponse)
def read_content(
    file_id: str, caller: Annotated[Caller, authorised("files:read")], uow: Unit
) -> StreamingResponse:
    """The bytes as they were uploaded."""
    row = repository.load_file(uow, file_id)
    chunks = process_blobs().stream(uow.project, Digest(row.digest))
    return StreamingResponse(chunks, media_type="application/octet-stream")


@router.delete("/v1/files/{file_id}")
def delete_file(
    file_id: str, caller: Annotated[Caller, authorised("files:write")], uow: Unit
) -> FileDeleted:
    service.delete_file(uow, file_id)
    return FileDeleted(id=file_id)


@router.get("/api/v1/files/{file_id}/report")
def read_report(
    file_id: str, caller: Annotated[Caller, authorised("files:read")], uow: Unit
) -> FileReport:
    """What the checks found, by line, each with its fix."""
    row = repository.load_file(uow, file_id)
    return _report(row, _findings(uow, file_id))


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
    return found.model_copy(update={"findings": _findings(uow, dataset_id)})


async def _received(request: Request, form: FormData, *, is_repetition: bool) -> FileObject:
    upload, content = _upload_of(form, is_repetition=is_repetition)
    limit = (
        settings.max_training_file_bytes
        if upload.purpose == "fine-tune"
        else settings.max_file_bytes
    )
    row = await run_in_threadpool(
        service.receive_file,
        request.app.state.units,
        process_blobs(),
        context_of(request),
        upload,
        content.file,
        max_bytes=limit,
        retry_window_seconds=settings.retry_window_seconds,
    )
    return _file(row)


def _upload_of(form: FormData, *, is_repetition: bool) -> tuple[Upload, UploadFile]:
    content, purpose = form.get("file"), form.get("purpose")
    if not isinstance(purpose, str):
        raise Invalid(
            "Give a purpose, for example 'fine-tune'.", code="missing_field", param="purpose"
        )
    if not isinstance(content, UploadFile):
        raise Invalid("Send the bytes as form field 'file'.", code="missing_field", param="file")
    seconds = form.get("expires_after[seconds]")
    if seconds is not None and not str(seconds).isdigit():
        raise Invalid("Give whole seconds.", code="invalid_value", param="expires_after.seconds")
    upload = Upload(
        purpose=purpose,
        filename=content.filename or "upload",
        expires_after_seconds=int(str(seconds)) if seconds is not None else None,
        is_repetition=is_repetition,
    )
    return upload, content


def _findings(uow: Unit, subject: str) -> list[FindingObject]:
    return [
        FindingObject.model_validate(row, from_attributes=True)
        for row in repository.list_findings(uow, subject)
    ]


def _file(row: FileRow) -> FileObject:
    return FileObject(
        id=row.id,
        bytes=row.bytes,
        created_at=int(row.created_at.timestamp()),
        filename=row.filename,
        purpose=row.purpose,
        status=cast("Literal['uploaded', 'processed', 'error']", row.status),
        status_details=row.status_details,
        expires_at=int(row.expires_at.timestamp()) if row.expires_at else None,
    )


def _report(row: FileRow, findings: list[FindingObject]) -> FileReport:
    counts = Counter(finding.rule for finding in findings)
    gate: Literal["pending", "pass", "pass_with_warnings", "fail"] = (
        "pending"
        if row.status == "uploaded"
        else "fail"
        if row.status == "error"
        else "pass_with_warnings"
        if findings
        else "pass"
    )
    return FileReport(
        file_id=row.id,
        status=cast("Literal['uploaded', 'processed', 'error']", row.status),
        gate=gate,
        rows=row.rows,
        counts=dict(counts),
        findings=findings,
    )


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
