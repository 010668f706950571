"""The two ways a job ends without a model."""

from __future__ import annotations

from services.finetuning import repository
from services.finetuning.domain.states import State
from services.finetuning.models import Job
from services.finetuning.provider.life import end_run
from shared.contracts.finetuning import JobCancelled, JobFailed
from shared.db import UnitOfWork
from shared.errors import Conflict
from shared.spine import leases

LEASE_KIND = "finetuning.job"


def cancel_job(uow: UnitOfWork, job_id: str, *, is_repetition: bool = False) -> Job:
    """
    Cancel a job; its trainer loses the lease and stops, its provider is told to.

    A repetition of the request finds its own work done, which is no error.

    Raises:
        Missing: The project has no such job.
        Conflict: The job has ended already.
    """
    # Before the job: a trainer locks lease and job in this order too, so neither waits for ever.
    leases.lock(uow, LEASE_KIND, job_id)
    job = repository.load_job(uow, job_id)
    if job.provider is None:
        _take_away(uow, job)
    if not record_cancellation(uow, job, f"asked for while {job.state}"):
        ended = repository.load_job(uow, job_id)
        if is_repetition and ended.state == State.CANCELLED:
            return ended
        raise Conflict(
            f"Job '{job_id}' is {ended.state} and cannot be cancelled any more.",
            code="job_not_cancellable",
        )
    end_run(uow, job_id)
    return repository.load_job(uow, job_id)


def record_cancellation(uow: UnitOfWork, job: Job, why: str) -> bool:
    """Move a job to its end, and say so; False when it has ended already."""
    if not repository.move_job(
        uow, job.id, State.CANCELLED, finished_at=uow.now, estimated_finish=None
    ):
        return False
    repository.add_event(uow, job.id, "The job was cancelled")
    uow.emit(JobCancelled(job_id=job.id, cycle_id=job.cycle_id))
    uow.audit("job.cancelled", job.id, reason=why)
    return True


def _take_away(uow: UnitOfWork, job: Job) -> None:
    is_begun = job.state in {State.RUNNING, State.PAUSED} or job.attempts
    if is_begun or repository.find_last_step(uow, job.id):
        # It has a folder, in which perhaps nobody is at work now. Whoever is loses the
        # lease, and a trainer takes it up once more, to remove the folder.
        leases.shelve(uow, LEASE_KIND, job.id)
        leases.unshelve(uow, LEASE_KIND, job.id)
    else:
        leases.withdraw(uow, LEASE_KIND, job.id)


def fail_job(
    uow: UnitOfWork, job_id: str, *, code: str, message: str, param: str | None = None
) -> None:
    """
    End a job with an error in OpenAI's form; one that has ended already stays as it is.

    Raises:
        Missing: The project has no such job.
    """
    job = repository.load_job(uow, job_id)
    error = {"code": code, "message": message, "param": param}
    if not repository.move_job(
        uow, job_id, State.FAILED, error=error, finished_at=uow.now, estimated_finish=None
    ):
        return
    leases.withdraw(uow, LEASE_KIND, job_id)
    end_run(uow, job_id)
    repository.add_event(uow, job_id, f"The job failed: {message}", level="error", data=error)
    uow.emit(JobFailed(job_id=job_id, code=code, message=message[:1000], cycle_id=job.cycle_id))
    uow.audit("job.failed", job_id, reason=message[:300], facts={"code": code})
