"""Statements on the runs of jobs at their providers."""

from __future__ import annotations

from sqlmodel import select

from services.finetuning.domain.provider import Phase
from services.finetuning.models import Job, ProviderRun
from shared.db import UnitOfWork


def add_run(uow: UnitOfWork, run: ProviderRun) -> None:
    uow.session.add(run)
    uow.session.flush()


def find_run(uow: UnitOfWork, job_id: str) -> ProviderRun | None:
    """As it is at this moment."""
    return uow.session.exec(select(ProviderRun).where(ProviderRun.job_id == job_id)).one_or_none()


def lock_run(uow: UnitOfWork, job_id: str) -> ProviderRun | None:
    """The run, which nobody else changes until this transaction ends; the job is locked before."""
    return uow.session.exec(
        select(ProviderRun)
        .where(ProviderRun.job_id == job_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()


def find_due(uow: UnitOfWork, job_id: str, position: int) -> tuple[ProviderRun, Job] | None:
    """The run and its job if the next step is *position*; None for an out-of-date step."""
    found = uow.session.exec(
        select(ProviderRun, Job)
        .where(ProviderRun.job_id == Job.id)
        .where(Job.id == job_id, ProviderRun.position == position)
        .where(ProviderRun.phase != Phase.DONE)
    ).one_or_none()
    return None if found is None else (found[0], found[1])


def claim_step(uow: UnitOfWork, job_id: str, position: int) -> tuple[ProviderRun, Job] | None:
    """Take the step *position*, so that nobody records it twice; None when it was taken."""
    # The job first, as whoever cancels it does, so that neither waits for ever.
    job = uow.session.exec(select(Job).where(Job.id == job_id).with_for_update()).one_or_none()
    run = lock_run(uow, job_id)
    if job is None or run is None or run.position != position:
        return None
    run.position += 1
    return run, job
