"""What a door writes about a batch; every function holds the lease and writes nothing without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta

from services.inference.batches import repository
from services.inference.batches.domain.questions import Checked, FileError
from services.inference.batches.domain.results import Result, Tokens
from services.inference.batches.domain.states import State, end_of
from services.inference.batches.models import Batch
from shared.contracts.batches import BatchCancelled, BatchCompleted, BatchExpired, BatchFailed
from shared.contracts.ingestion import OutputFileStored
from shared.db import UnitOfWork
from shared.ids import Digest, new_id
from shared.spine import leases
from shared.spine.leases import Lease

# A transaction that forgets answers has to be over soon.
_FORGOTTEN_AT_ONCE = 1_000
# Should nobody list the files for so long, the batch ends all the same; they are listed later.
_LONGEST_WAIT = timedelta(hours=1)
# Characters of an error that messages and audit entries carry.
_TOLD = 300
_ENDINGS: dict[State, type[BatchCompleted | BatchExpired | BatchCancelled]] = {
    State.COMPLETED: BatchCompleted,
    State.EXPIRED: BatchExpired,
    State.CANCELLED: BatchCancelled,
}


@dataclass(frozen=True, slots=True)
class NewFile:
    """Bytes in the blob store that become a file."""

    digest: Digest
    bytes: int


@dataclass(frozen=True, slots=True)
class Written:
    """
    What the files of a batch say.

    Attributes:
        output: None when no request was answered well; `errors` None when all were.
        failed: Lines of the error file; `unanswered` of them were not asked to the end.
    """

    output: NewFile | None
    errors: NewFile | None
    failed: int
    unanswered: int


NOTHING = Written(output=None, errors=None, failed=0, unanswered=0)


def start_batch(uow: UnitOfWork, lease: Lease, *, max_attempts: int) -> Batch | None:
    """
    Begin a batch, or go on with it.

    Returns:
        None when it ends now, because too many doors died of it.

    Raises:
        LeaseLost: Another door has it.
    """
    leases.guard(uow, lease)
    batch = repository.load_batch(uow, lease.subject)
    if batch.attempts >= max_attempts:
        message = (
            f"The batch was begun {batch.attempts} times in a row without any progress; "
            "the log of the queue door says why."
        )
        fail_batch(uow, lease, [FileError("door_died", message)])
        return None
    repository.update_batch(uow, batch.id, attempts=batch.attempts + 1)
    return batch


def forgive_attempt(uow: UnitOfWork, lease: Lease) -> None:
    """Count no attempt where a door gives the batch back in good health."""
    leases.guard(uow, lease)
    repository.update_batch(uow, lease.subject, attempts=0)


def still_lasts(uow: UnitOfWork, lease: Lease, state: State, *, seconds: float) -> bool:
    """Whether the batch is in *state*, and has time for it; the lease holds for *seconds* more."""
    leases.guard(uow, lease)
    leases.renew(uow.session, lease, seconds)
    batch = repository.load_batch(uow, lease.subject)
    is_late = state is State.IN_PROGRESS and uow.now >= batch.expires_at
    return batch.state == state and not is_late


def accept_file(uow: UnitOfWork, lease: Lease, checked: Checked) -> None:
    """Let the questions be asked, or fail the batch for what is wrong with its file."""
    leases.guard(uow, lease)
    if checked.errors:
        fail_batch(uow, lease, checked.errors)
        return
    repository.move_batch(
        uow,
        lease.subject,
        State.IN_PROGRESS,
        total=checked.total,
        model=next(iter(checked.models)) if len(checked.models) == 1 else None,
        in_progress_at=uow.now,
    )


def record_result(uow: UnitOfWork, lease: Lease, line: int, result: Result, tokens: Tokens) -> None:
    """Keep the answer to a line, once; one that comes after a cancellation is dropped."""
    leases.guard(uow, lease)
    if repository.load_batch(uow, lease.subject).state == State.IN_PROGRESS:
        repository.add_result(uow, lease.subject, line, result, tokens)


def close_questions(uow: UnitOfWork, lease: Lease) -> None:
    """Nothing is asked any more; a batch that is being cancelled stays so."""
    leases.guard(uow, lease)
    repository.move_batch(uow, lease.subject, State.FINALIZING, finalizing_at=uow.now)


def record_files(uow: UnitOfWork, lease: Lease, written: Written) -> None:
    """Have the files listed, and count what was not answered as failed. Done once."""
    leases.guard(uow, lease)
    batch = repository.load_batch(uow, lease.subject)
    if batch.written_at is not None:
        return
    repository.update_batch(
        uow,
        batch.id,
        output_file=_list_file(uow, batch, written.output, "output"),
        error_file=_list_file(uow, batch, written.errors, "errors"),
        failed=written.failed,
        unanswered=written.unanswered,
        written_at=uow.now,
        attempts=0,
    )


def are_files_listed(uow: UnitOfWork, lease: Lease) -> bool:
    """Whether clients can fetch the files, or have waited too long for them."""
    batch = repository.load_batch(uow, lease.subject)
    assert batch.written_at is not None
    made = [file for file in (batch.output_file, batch.error_file) if file is not None]
    is_late = uow.now - batch.written_at > _LONGEST_WAIT
    return is_late or repository.count_files(uow, made) == len(made)


def forget_results(uow: UnitOfWork, lease: Lease) -> bool:
    """Delete answers that the files hold, or that nobody can have; whether there were any."""
    leases.guard(uow, lease)
    return repository.forget_results(uow, lease.subject, limit=_FORGOTTEN_AT_ONCE)


def end_batch(uow: UnitOfWork, lease: Lease) -> None:
    """End a batch whose files are there, and tell everybody who listens."""
    leases.finish(uow, lease)
    batch = repository.load_batch(uow, lease.subject)
    end = end_of(State(batch.state), unanswered=batch.unanswered)
    if not repository.move_batch(uow, batch.id, end, ended_at=uow.now):
        return
    counts = {"total": batch.total, "completed": batch.completed, "failed": batch.failed}
    uow.emit(_ENDINGS[end](batch_id=batch.id, **counts))
    uow.audit(f"batch.{end}", batch.id, facts=counts)


def fail_batch(uow: UnitOfWork, lease: Lease, errors: Sequence[FileError]) -> None:
    """End a batch for what is wrong with its file; one that has ended stays as it is."""
    leases.finish(uow, lease)
    found = [asdict(error) for error in errors]
    if not repository.move_batch(uow, lease.subject, State.FAILED, errors=found, ended_at=uow.now):
        return
    first = errors[0]
    uow.emit(BatchFailed(batch_id=lease.subject, code=first.code, message=first.message[:_TOLD]))
    uow.audit("batch.failed", lease.subject, reason=first.message[:_TOLD])


def _list_file(uow: UnitOfWork, batch: Batch, file: NewFile | None, what: str) -> str | None:
    if file is None:
        return None
    file_id = new_id("file-")
    uow.emit(
        OutputFileStored(
            file_id=file_id,
            filename=f"{batch.id}_{what}.jsonl",
            digest=file.digest,
            bytes=file.bytes,
            expires_after_seconds=batch.expires_after_seconds,
        )
    )
    return file_id
