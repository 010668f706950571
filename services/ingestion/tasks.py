"""Celery adapter of ingestion."""

from __future__ import annotations

from services.ingestion import sealing, service
from shared.contracts.ingestion import (
    FileUploaded,
    OutputFileStored,
    ResultFileStored,
    SealDataset,
)
from shared.db import UnitOfWork
from shared.ids import Project
from shared.process import process_blobs
from shared.task import Work, phased_task, task


@task("ingestion.check_file", FileUploaded)
def check_file(uow: UnitOfWork, command: FileUploaded) -> None:
    service.check_file(uow, process_blobs(), command)


@task("ingestion.adopt_file", ResultFileStored)
def adopt_file(uow: UnitOfWork, fact: ResultFileStored) -> None:
    service.adopt_file(uow, fact)


@task("ingestion.adopt_output", OutputFileStored)
def adopt_output(uow: UnitOfWork, fact: OutputFileStored) -> None:
    service.adopt_file(uow, fact)


@phased_task("ingestion.seal_dataset", SealDataset)
def seal_dataset(work: Work, command: SealDataset) -> None:
    """Idempotent by the dataset id. Reading and counting happen outside the transaction."""
    outcome = sealing.assemble(process_blobs(), Project(work.context.project), command)
    with work.finish() as uow:
        sealing.seal(uow, process_blobs(), command, outcome)
