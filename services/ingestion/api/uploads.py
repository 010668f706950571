"""HTTP adapter of uploads in parts, in OpenAI's shape."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from services.ingestion import repository, uploads
from services.ingestion.api.shown import file_object
from services.ingestion.domain.uploads import UploadState
from services.ingestion.models import UploadRow
from services.ingestion.schemas import (
    CompleteUploadBody,
    CreateUploadBody,
    PartObject,
    UploadObject,
)
from services.ingestion.settings import ingestion_settings
from services.ingestion.uploads import UploadRequest
from shared.backpressure import Room
from shared.blobs import mapped_disk_errors
from shared.db import UnitOfWork, Units
from shared.errors import Invalid
from shared.http import Unit, authorised, context_of
from shared.keys import Caller
from shared.process import process_blobs

router = APIRouter(prefix="/v1/uploads", tags=["files"])

Writer = Annotated[Caller, authorised("files:write")]

_PART_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["data"],
                    "properties": {"data": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


@router.post("")
def create_upload(caller: Writer, uow: Unit, body: CreateUploadBody) -> UploadObject:
    """Begin an upload, whose parts may come for an hour."""
    del caller
    return _shown(uow, uploads.start_upload(uow, _request(body), ingestion_settings()))


@router.post("/{upload_id}/parts", openapi_extra=_PART_BODY)
async def add_part(caller: Writer, request: Request, upload_id: str) -> PartObject:
    """Store one part; parts may come in any order and at the same time."""
    del caller
    with mapped_disk_errors():
        async with request.form(max_files=1, max_fields=1) as form:
            data = form.get("data")
            if not isinstance(data, UploadFile):
                raise Invalid(
                    "Send the bytes as form field 'data'.", code="missing_field", param="data"
                )
            part = await run_in_threadpool(
                uploads.add_part,
                cast("Units", request.app.state.units),
                process_blobs(),
                context_of(request),
                upload_id,
                data.file,
                max_bytes=ingestion_settings().max_part_bytes,
            )
    return PartObject(
        id=part.id, upload_id=part.upload_id, created_at=int(part.created_at.timestamp())
    )


@router.post("/{upload_id}/complete")
def complete_upload(
    caller: Writer, room: Room, request: Request, upload_id: str, body: CompleteUploadBody
) -> UploadObject:
    """Put the parts together, in the order of their ids here; asked again, the same file."""
    del caller, room
    units, context = cast("Units", request.app.state.units), context_of(request)
    row = uploads.complete_upload(
        units, process_blobs(), context, upload_id, body.part_ids, md5=body.md5
    )
    with units.open(context) as uow:
        return _shown(uow, row)


@router.post("/{upload_id}/cancel")
def cancel_upload(caller: Writer, uow: Unit, upload_id: str) -> UploadObject:
    """End an upload without a file."""
    del caller
    return _shown(uow, uploads.cancel_upload(uow, upload_id))


def _request(body: CreateUploadBody) -> UploadRequest:
    return UploadRequest(
        filename=body.filename,
        purpose=body.purpose,
        bytes=body.bytes,
        mime_type=body.mime_type,
        expires_after_seconds=body.expires_after.seconds if body.expires_after else None,
    )


def _shown(uow: UnitOfWork, row: UploadRow) -> UploadObject:
    # It may have been deleted since.
    found = repository.find_file(uow, row.file_id) if row.file_id else None
    return UploadObject(
        id=row.id,
        bytes=row.bytes,
        created_at=int(row.created_at.timestamp()),
        expires_at=int(row.expires_at.timestamp()),
        filename=row.filename,
        purpose=row.purpose,
        status=UploadState.of(row.status, row.expires_at, uow.now),
        file=file_object(found) if found else None,
    )
