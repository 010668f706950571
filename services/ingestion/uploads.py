"""Use cases of uploads in parts: begin, add, complete, cancel."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import IO

from services.ingestion import repository
from services.ingestion.domain.uploads import (
    UploadState,
    require_digest,
    require_parts,
    require_pending,
    require_room,
)
from services.ingestion.models import PartRow, UploadRow
from services.ingestion.receiving import (
    Counted,
    announce_file,
    check_expiry,
    check_purpose,
    new_file,
)
from services.ingestion.settings import IngestionSettings
from shared.blobs import BlobStore
from shared.context import Context
from shared.db import UnitOfWork, Units
from shared.errors import TooLarge
from shared.ids import Digest, Project, new_id


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """
    Attributes:
        bytes: Of the whole file.
        expires_after_seconds: Of the file, from its completion; None keeps it.
    """

    filename: str
    purpose: str
    bytes: int
    mime_type: str
    expires_after_seconds: int | None = None


def start_upload(uow: UnitOfWork, request: UploadRequest, settings: IngestionSettings) -> UploadRow:
    """
    Promise a file.

    Raises:
        Invalid: A field is wrong.
        TooLarge: Its purpose allows fewer bytes.
    """
    check_purpose(request.purpose)
    check_expiry(request.expires_after_seconds)
    most = settings.most_bytes(request.purpose, in_parts=True)
    if request.bytes > most:
        raise TooLarge(
            f"A file with the purpose '{request.purpose}' may have {most} bytes.",
            code="file_too_large",
            param="bytes",
        )
    row = UploadRow(
        id=new_id("upload_"),
        project=uow.project,
        filename=request.filename,
        purpose=request.purpose,
        bytes=request.bytes,
        mime_type=request.mime_type,
        expires_after_seconds=request.expires_after_seconds,
        status=UploadState.PENDING,
        created_at=uow.now,
        expires_at=uow.now + timedelta(seconds=settings.upload_seconds),
    )
    repository.add_upload(uow, row)
    uow.audit("upload.created", row.id, facts={"bytes": row.bytes})
    return row


def add_part(
    units: Units,
    blobs: BlobStore,
    context: Context,
    upload_id: str,
    content: IO[bytes],
    *,
    max_bytes: int,
) -> PartRow:
    """
    Store a part's bytes, then its row. A blob without a row is harmless.

    Raises:
        Missing: There is no such upload.
        Invalid: It has ended.
        TooLarge: More than *max_bytes*, or than the upload was begun for.
    """
    with units.open(context) as uow:
        _load_pending(uow, upload_id)
    counted = Counted(content, max_bytes=max_bytes)
    digest = blobs.put_stream(context.project, counted)
    with units.open(context) as uow:
        # It may have ended while the part arrived, and other parts may have come.
        row = _load_pending(uow, upload_id, lock=True)
        # A part that was sent again has the same bytes, and counts once.
        known = {part.digest: part.bytes for part in repository.parts_of(uow, upload_id)}
        arrived = sum(size for of_part, size in known.items() if of_part != digest)
        require_room(row.bytes, arrived, counted.seen, spare_bytes=max_bytes)
        part = PartRow(
            id=new_id("part_"),
            project=uow.project,
            upload_id=upload_id,
            digest=digest,
            bytes=counted.seen,
            created_at=uow.now,
        )
        repository.add_part(uow, part)
    return part


def complete_upload(
    units: Units,
    blobs: BlobStore,
    context: Context,
    upload_id: str,
    part_ids: Sequence[str],
    *,
    md5: str | None,
) -> UploadRow:
    """
    Make the file of its parts; a repetition gets the file that was made.

    Raises:
        Missing: There is no such upload.
        Invalid: It has ended, or the parts are not what was promised; it can be tried again.
    """
    with units.open(context) as uow:
        row = repository.load_upload(uow, upload_id)
        if row.status == UploadState.COMPLETED:
            return row
        _require_pending(uow, row)
        parts = repository.parts_of(uow, upload_id)
        require_parts(part_ids, {part.id: part.bytes for part in parts}, row.bytes)
        digests = {part.id: Digest(part.digest) for part in parts}
    whole = _Hashed(_chunks(blobs, context.project, [digests[part] for part in part_ids]))
    digest = blobs.put_stream(context.project, whole)
    require_digest(md5, whole.md5)
    with units.open(context) as uow:
        row = repository.lock_upload(uow, upload_id)
        if row.status == UploadState.COMPLETED:
            return row
        _require_pending(uow, row)
        file = new_file(
            uow,
            purpose=row.purpose,
            filename=row.filename,
            bytes=row.bytes,
            digest=digest,
            expires_after_seconds=row.expires_after_seconds,
        )
        repository.add_file(uow, file)
        announce_file(uow, file)
        row.status, row.file_id = UploadState.COMPLETED, file.id
    return row


def cancel_upload(uow: UnitOfWork, upload_id: str) -> UploadRow:
    """
    Raises:
        Missing: There is no such upload.
        Invalid: It has ended otherwise.
    """
    row = repository.lock_upload(uow, upload_id)
    if row.status == UploadState.CANCELLED:
        return row
    _require_pending(uow, row)
    row.status = UploadState.CANCELLED
    uow.audit("upload.cancelled", upload_id)
    return row


def _load_pending(uow: UnitOfWork, upload_id: str, *, lock: bool = False) -> UploadRow:
    load = repository.lock_upload if lock else repository.load_upload
    row = load(uow, upload_id)
    _require_pending(uow, row)
    return row


def _require_pending(uow: UnitOfWork, row: UploadRow) -> None:
    require_pending(row.id, UploadState.of(row.status, row.expires_at, uow.now))


def _chunks(blobs: BlobStore, project: Project, digests: Sequence[Digest]) -> Iterator[bytes]:
    for digest in digests:
        yield from blobs.stream(project, digest)


class _Hashed:
    """Chunks, and the MD5 of those that passed."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        # Not for security: the client may compare it with its own.
        self._md5 = hashlib.md5(usedforsecurity=False)

    @property
    def md5(self) -> str:
        return self._md5.hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._md5.update(chunk)
            yield chunk
