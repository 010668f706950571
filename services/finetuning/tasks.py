"""Celery adapter of the room."""

from __future__ import annotations

from services.finetuning.bootstrap import process_desk
from services.finetuning.provider import progress
from services.finetuning.service import create, queueing
from shared.contracts.finetuning import ContinueJob, SubmitJob
from shared.contracts.ingestion import DatasetRefused, DatasetSealed
from shared.db import UnitOfWork
from shared.process import process_settings
from shared.task import Work, phased_task, task


@task("finetuning.accept_dataset", DatasetSealed)
def accept_dataset(uow: UnitOfWork, fact: DatasetSealed) -> None:
    """Idempotent by the state of the job."""
    queueing.accept_dataset(uow, fact)


@task("finetuning.refuse_dataset", DatasetRefused)
def refuse_dataset(uow: UnitOfWork, fact: DatasetRefused) -> None:
    """Idempotent by the state of the job."""
    queueing.refuse_dataset(uow, fact)


@task("finetuning.submit_job", SubmitJob)
def submit_job(uow: UnitOfWork, command: SubmitJob) -> None:
    """Idempotent by cycle and dataset."""
    create.submit_job(uow, command)


@phased_task("finetuning.continue_job", ContinueJob)
def continue_job(work: Work, command: ContinueJob) -> None:
    """Idempotent by the step's number; on loss the delivery is due again."""
    is_last = work.delivery.starts + 1 >= process_settings().delivery_attempts
    progress.continue_job(work, process_desk(), command, is_last=is_last)
