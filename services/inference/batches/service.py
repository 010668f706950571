"""Use cases of batches for those who ask for them: make one, cancel one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from services.inference.batches import repository
from services.inference.batches.domain.states import State
from services.inference.batches.models import Batch
from services.inference.batches.repository import StoredFile
from shared.db import UnitOfWork
from shared.errors import Conflict, Invalid
from shared.ids import new_id
from shared.metadata import check_metadata
from shared.spine import leases

LEASE_KIND = "inference.batch"
# The only window there is, as at OpenAI.
WINDOW = "24h"
_WINDOW = timedelta(hours=24)
_PURPOSE = "batch"


@dataclass(frozen=True)
class CreateBatch:
    """
    A request for a batch.

    Attributes:
        expires_after_seconds: Of the files that are made; None keeps them.
        request_digest: Equal for requests that ask for the same thing.
        is_repetition: The client says that it sent this request before.
    """

    input_file: str
    endpoint: str
    metadata: dict[str, str] | None
    expires_after_seconds: int | None
    request_digest: str
    is_repetition: bool


def create_batch(
    uow: UnitOfWork, command: CreateBatch, *, max_file_bytes: int, retry_window_seconds: float
) -> Batch:
    """
    Accept a batch and offer it to the doors; a repetition gets the batch it made before.

    Raises:
        Invalid: The file is unknown, not meant for batches, or too large; or it is the metadata.
    """
    check_metadata(command.metadata)
    # A repetition may overtake the first.
    uow.take_turn("inference.create_batch", command.request_digest)
    if command.is_repetition:
        twin = repository.find_twin(uow, command.request_digest, retry_window_seconds)
        if twin is not None:
            return twin
    file = _input_file(uow, command.input_file, max_file_bytes)
    batch = Batch(
        id=new_id("batch"),
        project=uow.project,
        endpoint=command.endpoint,
        input_file=command.input_file,
        input_digest=file.digest,
        user_metadata=command.metadata or None,
        expires_after_seconds=command.expires_after_seconds,
        request_digest=command.request_digest,
        correlation_id=uow.context.correlation_id,
        created_at=uow.now,
        expires_at=uow.now + _WINDOW,
    )
    repository.add_batch(uow, batch)
    leases.offer(uow, LEASE_KIND, batch.id)
    uow.audit(
        "batch.created",
        batch.id,
        facts={"endpoint": batch.endpoint, "input_file": batch.input_file},
    )
    return batch


def cancel_batch(uow: UnitOfWork, batch_id: str, *, is_repetition: bool = False) -> Batch:
    """
    Have a batch stop; the door that works on it writes what was answered, and ends it.

    A repetition of the request finds its own work done, which is no error.

    Raises:
        Missing: The project has no such batch.
        Conflict: All its requests are answered, or it has ended.
    """
    # Before the batch: a door locks lease and batch in this order too.
    leases.lock(uow, LEASE_KIND, batch_id)
    batch = repository.load_batch(uow, batch_id)
    if repository.move_batch(uow, batch_id, State.CANCELLING, cancelling_at=uow.now):
        uow.audit("batch.cancelled", batch_id, reason=f"asked for while {batch.state}")
        return repository.load_batch(uow, batch_id)
    if batch.state == State.CANCELLING or (is_repetition and batch.state == State.CANCELLED):
        return batch
    raise Conflict(
        f"Batch '{batch_id}' is {batch.state} and cannot be cancelled any more.",
        code="batch_not_cancellable",
    )


def _input_file(uow: UnitOfWork, file_id: str, max_bytes: int) -> StoredFile:
    file = repository.find_file(uow, file_id)
    if file is None:
        raise _refused(
            f"there is no file '{file_id}' in this project; upload it first.", "file_not_found"
        )
    if file.purpose != _PURPOSE:
        raise _refused(
            f"file '{file_id}' has the purpose '{file.purpose}'; upload it with the purpose "
            f"'{_PURPOSE}'.",
            "wrong_file_purpose",
        )
    if file.bytes > max_bytes:
        raise _refused(
            f"file '{file_id}' has {file.bytes} bytes, over the limit of {max_bytes}; split it.",
            "file_too_large",
        )
    return file


def _refused(why: str, code: str) -> Invalid:
    return Invalid(f"input_file_id: {why}", code=code, param="input_file_id")
