"""HTTP adapter of files: OpenAI's routes, and our reports."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal, cast

from fastapi import APIRouter, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from starlette.datastructures import FormData, UploadFile

from services.ingestion import repository, service
from services.ingestion.api.shown import file_object, findings_of
from services.ingestion.models import FileRow
from services.ingestion.schemas import FileDeleted, FileObject, FileReport, FindingObject
from services.ingestion.service import Upload
from services.ingestion.settings import ingestion_settings
from shared.backpressure import Room
from shared.blobs import mapped_disk_errors
from shared.errors import Invalid
from shared.http import Unit, authorised, context_of
from shared.ids import Digest
from shared.keys import Caller
from shared.pages import Page, page_of
from shared.process import process_blobs

router = APIRouter()

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
    return page_of([file_object(row) for row in rows], limit)


@router.get("/v1/files/{file_id}")
def retrieve_file(
    file_id: str, caller: Annotated[Caller, authorised("files:read")], uow: Unit
) -> FileObject:
    return file_object(repository.load_file(uow, file_id))


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
    return _report(row, findings_of(uow, file_id))


async def _received(request: Request, form: FormData, *, is_repetition: bool) -> FileObject:
    upload, content = _upload_of(form, is_repetition=is_repetition)
    settings = ingestion_settings()
    row = await run_in_threadpool(
        service.receive_file,
        request.app.state.units,
        process_blobs(),
        context_of(request),
        upload,
        content.file,
        max_bytes=settings.most_bytes(upload.purpose),
        retry_window_seconds=settings.retry_window_seconds,
    )
    return file_object(row)


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
