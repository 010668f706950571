"""Celery adapter of feedback."""

from __future__ import annotations

from services.feedback import service
from shared.contracts.feedback import CurateCorrections, ResolveOutcome
from shared.db import UnitOfWork
from shared.process import process_blobs
from shared.task import task


@task("feedback.resolve_outcome", ResolveOutcome)
def resolve_outcome(uow: UnitOfWork, command: ResolveOutcome) -> None:
    service.resolve_outcome(uow, command)


@task("feedback.curate_corrections", CurateCorrections)
def curate_corrections(uow: UnitOfWork, command: CurateCorrections) -> None:
    service.curate_corrections(uow, process_blobs(), command)
