"""Where a run begins, and where its owner reaches into it."""

from __future__ import annotations

from typing import Literal

from services.finetuning.domain.provider import ENDING, Phase
from services.finetuning.models import Job, ProviderRun
from services.finetuning.provider import repository
from shared.contracts.catalogue import consumers_of
from shared.contracts.finetuning import ContinueJob
from shared.db import UnitOfWork
from shared.spine import deliveries


def begin_run(uow: UnitOfWork, job: Job, provider: str) -> None:
    """Hand a job whose rows are checked to its provider."""
    repository.add_run(
        uow,
        ProviderRun(job_id=job.id, project=uow.project, provider=provider, created_at=uow.now),
    )
    uow.emit(ContinueJob(job_id=job.id, position=0))


def end_run(uow: UnitOfWork, job_id: str) -> None:
    """The job has ended here: have the provider stop, and what was sent there removed."""
    run = repository.lock_run(uow, job_id)
    if run is not None:
        run.phase = ENDING[Phase(run.phase)]
        # What is to be done now has not been tried yet.
        run.failing_since = run.missing_since = None
        _look_soon(uow, run)


def wish(uow: UnitOfWork, job_id: str, what: Literal["pause", "resume"]) -> None:
    """Have the provider asked; what it says then decides."""
    run = repository.lock_run(uow, job_id)
    if run is not None:
        run.wish, run.wished_at = what, uow.now
        _look_soon(uow, run)


def _look_soon(uow: UnitOfWork, run: ProviderRun) -> None:
    # One that fails, or asked to be left alone, is left alone.
    if not run.failures:
        for task in consumers_of(ContinueJob):
            deliveries.hasten(uow.session, task, run.job_id)
