"""
Pause a job and go on with it; its steps, its state and its fence are kept meanwhile.

Of a job that is trained elsewhere the provider is asked, and its word changes the state.
"""

from __future__ import annotations

from typing import Literal

from services.finetuning import repository
from services.finetuning.domain.states import State
from services.finetuning.models import Job
from services.finetuning.provider.life import wish
from services.finetuning.service.ending import LEASE_KIND
from shared.db import UnitOfWork
from shared.errors import Conflict
from shared.spine import leases


def pause_job(uow: UnitOfWork, job_id: str, *, is_repetition: bool = False) -> Job:
    """
    Take a running job away from its trainer, which saves its state and stops.

    A repetition of the request finds its own work done, which is no error.

    Raises:
        Missing: The project has no such job.
        Conflict: It is not running.
    """
    leases.lock(uow, LEASE_KIND, job_id)
    job = repository.load_job(uow, job_id)
    if job.state != State.RUNNING:
        return _repeated(job, {State.PAUSED}, "paused", is_repetition=is_repetition)
    if job.provider is not None:
        return _asked(uow, job, "pause")
    leases.shelve(uow, LEASE_KIND, job_id)
    repository.move_job(uow, job_id, State.PAUSED, estimated_finish=None)
    repository.add_event(uow, job_id, "The job was paused")
    uow.audit("job.paused", job_id)
    return repository.load_job(uow, job_id)


def resume_job(uow: UnitOfWork, job_id: str, *, is_repetition: bool = False) -> Job:
    """
    Offer a paused job to the trainers again; a repetition is treated as in `pause_job`.

    Raises:
        Missing: The project has no such job.
        Conflict: It is not paused.
    """
    leases.lock(uow, LEASE_KIND, job_id)
    job = repository.load_job(uow, job_id)
    if job.state != State.PAUSED:
        done = {State.QUEUED, State.RUNNING}
        return _repeated(job, done, "resumed", is_repetition=is_repetition)
    if job.provider is not None:
        return _asked(uow, job, "resume")
    repository.move_job(uow, job_id, State.QUEUED)
    leases.unshelve(uow, LEASE_KIND, job_id)
    repository.add_event(uow, job_id, "The job was resumed, moving it to queued state")
    uow.audit("job.resumed", job_id)
    return repository.load_job(uow, job_id)


def _asked(uow: UnitOfWork, job: Job, what: Literal["pause", "resume"]) -> Job:
    wish(uow, job.id, what)
    repository.add_event(uow, job.id, f"The provider '{job.provider}' is asked to {what} the job")
    uow.audit(f"job.{what}_asked", job.id)
    return job


def _repeated(job: Job, done: set[State], what: str, *, is_repetition: bool) -> Job:
    if is_repetition and job.state in done:
        return job
    raise Conflict(
        f"Job '{job.id}' is {job.state} and cannot be {what} now.", code=f"job_not_{what}"
    )
