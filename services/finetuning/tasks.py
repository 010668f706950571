"""Celery adapter of the room."""

from __future__ import annotations

from services.finetuning.service import create, queueing
from shared.contracts.finetuning import SubmitJob
from shared.contracts.ingestion import DatasetRefused, DatasetSealed
from shared.db import UnitOfWork
from shared.task import task


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
