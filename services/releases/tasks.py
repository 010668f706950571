"""Messages that register models and move releases."""

from __future__ import annotations

from services.releases.bootstrap import process_serving
from services.releases.service import canary, load, models, retirement, start
from shared.contracts.finetuning import ModelCreated
from shared.contracts.releases import (
    AnnounceRetirements,
    FoldCanary,
    LoadRelease,
    StartRelease,
)
from shared.contracts.workloads import WorkloadCreated
from shared.db import UnitOfWork
from shared.process import process_blobs
from shared.task import Work, phased_task, task


@task("releases.register_model", ModelCreated)
def register_model(uow: UnitOfWork, message: ModelCreated) -> None:
    """Idempotent by the model's id."""
    models.register_model(uow, message)


@task("releases.install_base", WorkloadCreated)
def install_base(uow: UnitOfWork, message: WorkloadCreated) -> None:
    """Idempotent: a workload has one live release."""
    start.install_base(uow, message)


@task("releases.start_release", StartRelease)
def start_release(uow: UnitOfWork, message: StartRelease) -> None:
    """Idempotent by the cycle's id."""
    start.start_for_cycle(uow, message)


@phased_task("releases.load_release", LoadRelease)
def load_release(work: Work, message: LoadRelease) -> None:
    """Loading happens outside of any transaction; only a gated release goes on."""
    load.load_release(work, process_serving(), process_blobs(), message.release_id)


@task("releases.fold_canary", FoldCanary)
def fold_canary(uow: UnitOfWork, message: FoldCanary) -> None:
    """Idempotent by the cursors, which move in the same transaction."""
    canary.fold_canary(uow, message.release_id)


@task("releases.announce_retirements", AnnounceRetirements)
def announce_retirements(uow: UnitOfWork, _message: AnnounceRetirements) -> None:
    """Idempotent by the announcements, which are stored in the same transaction."""
    retirement.announce_due(uow)
