"""Rows as callers see them."""

from __future__ import annotations

from typing import Literal, cast

from services.ingestion import repository
from services.ingestion.models import FileRow
from services.ingestion.schemas import FileObject, FindingObject
from shared.db import UnitOfWork


def findings_of(uow: UnitOfWork, subject: str) -> list[FindingObject]:
    """What was found in a file or a dataset."""
    return [
        FindingObject.model_validate(row, from_attributes=True)
        for row in repository.list_findings(uow, subject)
    ]


def file_object(row: FileRow) -> FileObject:
    """A file in OpenAI's shape."""
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
