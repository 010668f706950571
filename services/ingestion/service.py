"""Use cases of files: receive, check, adopt, delete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO

from services.ingestion import repository
from services.ingestion.domain.files import FileCheck, check_training_file
from services.ingestion.domain.findings import Severity, first_error
from services.ingestion.models import FileRow
from services.ingestion.receiving import (
    Counted,
    announce_file,
    check_expiry,
    check_purpose,
    new_file,
)
from shared.blobs import BlobStore
from shared.context import Context
from shared.contracts.ingestion import FileUploaded, OutputFileStored, ResultFileStored
from shared.db import UnitOfWork, Units
from shared.ids import Digest


@dataclass(frozen=True, slots=True)
class Upload:
    """A file on its way in.

    Attributes:
        purpose: One of OpenAI's upload purposes.
        filename: A label, never a path.
        expires_after_seconds: 3,600 to 2,592,000, or None to keep it.
        is_repetition: The client says that it sent this before.
    """

    purpose: str
    filename: str
    expires_after_seconds: int | None = None
    is_repetition: bool = False

    def validate(self) -> None:
        """
        Raises:
            Invalid: Names the field.
        """
        check_purpose(self.purpose)
        check_expiry(self.expires_after_seconds)


def receive_file(
    units: Units,
    blobs: BlobStore,
    context: Context,
    upload: Upload,
    content: IO[bytes],
    *,
    max_bytes: int,
    retry_window_seconds: float,
) -> FileRow:
    """
    Store the bytes, then the row, and ask for the checks. A blob without a row is harmless.

    A repetition gets the file it made before, if its first attempt came so far.

    Raises:
        Invalid: A field is wrong.
        TooLarge: More than *max_bytes*.
    """
    upload.validate()
    counted = Counted(content, max_bytes=max_bytes)
    digest = blobs.put_stream(context.project, counted)
    with units.open(context) as uow:
        row = new_file(
            uow,
            purpose=upload.purpose,
            filename=upload.filename,
            bytes=counted.seen,
            digest=digest,
            expires_after_seconds=upload.expires_after_seconds,
        )
        # A repetition may overtake the first.
        uow.take_turn("ingestion.receive", digest)
        if upload.is_repetition:
            twin = repository.find_twin(uow, row, retry_window_seconds)
            if twin is not None:
                return twin
        repository.add_file(uow, row)
        announce_file(uow, row)
    return row


def check_file(uow: UnitOfWork, blobs: BlobStore, command: FileUploaded) -> None:
    """Look at the content; idempotent: the same bytes give the same findings."""
    row = repository.load_file(uow, command.file_id)
    if row.purpose != "fine-tune":
        row.status = "processed"
        return
    check = check_training_file(blobs.stream(uow.project, Digest(row.digest)))
    repository.replace_findings(uow, row.id, check.findings)
    row.rows = len(check.rows)
    row.status, row.status_details = _verdict(check)


def adopt_file(uow: UnitOfWork, fact: ResultFileStored | OutputFileStored) -> None:
    """Give a stored blob a file row, so that clients can download it."""
    expiry = fact.expires_after_seconds if isinstance(fact, OutputFileStored) else None
    row = new_file(
        uow,
        purpose=fact.purpose,
        filename=fact.filename,
        bytes=fact.bytes,
        digest=Digest(fact.digest),
        expires_after_seconds=expiry,
    )
    row.id, row.status = fact.file_id, "processed"
    repository.add_file(uow, row)


def delete_file(uow: UnitOfWork, file_id: str) -> None:
    """Take a file out of every list. Sealed datasets keep their own copy of its rows."""
    row = repository.load_file(uow, file_id)
    row.deleted_at = uow.now
    uow.audit("file.deleted", file_id)


def _verdict(check: FileCheck) -> tuple[str, str | None]:
    worst = first_error(check.findings)
    if worst is None:
        return "processed", None
    errors = sum(finding.severity is Severity.ERROR for finding in check.findings)
    return "error", f"{errors} errors; the first: {worst.sentence()}"
