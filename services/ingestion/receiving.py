"""What every way in for a file shares: checks of its fields, counted bytes, its announcement."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import IO

from services.ingestion.models import FileRow
from services.ingestion.schemas import PURPOSES
from shared.contracts.ingestion import FileUploaded
from shared.db import UnitOfWork
from shared.errors import Invalid, TooLarge
from shared.ids import Digest, new_id

_CHUNK_BYTES = 1 << 20
_MIN_EXPIRY_SECONDS, _MAX_EXPIRY_SECONDS = 3600, 2_592_000


def check_purpose(purpose: str) -> None:
    """
    Raises:
        Invalid: It is none of OpenAI's upload purposes.
    """
    if purpose not in PURPOSES:
        raise Invalid(
            f"'{purpose}' is no purpose; use one of {', '.join(PURPOSES)}.",
            code="invalid_purpose",
            param="purpose",
        )


def check_expiry(seconds: int | None) -> None:
    """
    Raises:
        Invalid: Neither None nor 3,600 to 2,592,000.
    """
    if seconds is not None and not _MIN_EXPIRY_SECONDS <= seconds <= _MAX_EXPIRY_SECONDS:
        raise Invalid(
            f"expires_after.seconds is {seconds}; give {_MIN_EXPIRY_SECONDS} "
            f"to {_MAX_EXPIRY_SECONDS}.",
            code="invalid_value",
            param="expires_after.seconds",
        )


class Counted:
    """Bytes as they pass, and how many there were; stops at a limit."""

    def __init__(self, content: IO[bytes], *, max_bytes: int) -> None:
        """
        Args:
            content: Read once.
            max_bytes: More are refused with `TooLarge`.
        """
        self.seen = 0
        self._content = content
        self._limit = max_bytes

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self._content.read(_CHUNK_BYTES):
            self.seen += len(chunk)
            if self.seen > self._limit:
                raise TooLarge(
                    f"The file is over the limit of {self._limit} bytes; "
                    "split it, or ask the operator to raise the limit.",
                    code="file_too_large",
                    param="file",
                )
            yield chunk


def new_file(
    uow: UnitOfWork,
    *,
    purpose: str,
    filename: str,
    bytes: int,  # noqa: A002 - the column's name
    digest: Digest,
    expires_after_seconds: int | None,
) -> FileRow:
    """A file whose bytes are stored, from now on; it is not in the database yet."""
    expiry = expires_after_seconds
    return FileRow(
        id=new_id("file-"),
        project=uow.project,
        purpose=purpose,
        filename=filename,
        bytes=bytes,
        digest=digest,
        status="uploaded",
        created_at=uow.now,
        expires_at=uow.now + timedelta(seconds=expiry) if expiry else None,
    )


def announce_file(uow: UnitOfWork, row: FileRow) -> None:
    """Ask for the checks of a new file, and note that it came."""
    uow.emit(FileUploaded(file_id=row.id, purpose=row.purpose, digest=row.digest, bytes=row.bytes))
    uow.audit("file.uploaded", row.id, facts={"bytes": row.bytes, "digest": row.digest})
