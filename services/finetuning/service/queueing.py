"""Hear about the dataset of a job: sealed, it is queued; refused, it has failed."""

from __future__ import annotations

from services.finetuning import repository
from services.finetuning.auto import resolve_auto
from services.finetuning.domain.states import State
from services.finetuning.models import Job
from services.finetuning.provider.life import begin_run
from services.finetuning.repository import Dataset
from services.finetuning.service.ending import LEASE_KIND, fail_job
from shared.contracts.ingestion import DatasetRefused, DatasetSealed
from shared.db import UnitOfWork
from shared.spine import leases


def accept_dataset(uow: UnitOfWork, fact: DatasetSealed) -> None:
    """
    Queue the job that asked for this dataset; one that was cancelled meanwhile stays so.

    Raises:
        Missing: There is no such job.
    """
    if fact.requester.kind != "job":
        return
    job = repository.load_job(uow, fact.requester.id)
    dataset = Dataset(
        base=job.base,
        training_digest=fact.training_digest,
        validation_digest=fact.validation_digest,
        training_rows=fact.training_rows,
        training_tokens=fact.training_tokens,
    )
    if queue_job(uow, job, dataset) and fact.truncated_rows:
        repository.add_event(
            uow,
            job.id,
            f"Examples longer than the model reads: {fact.truncated_rows}. Their end is cut.",
            level="warn",
        )


def refuse_dataset(uow: UnitOfWork, fact: DatasetRefused) -> None:
    """Fail the job that asked for this dataset."""
    if fact.requester.kind == "job":
        fail_job(uow, fact.requester.id, code=fact.code, message=fact.message, param=fact.param)


def queue_job(uow: UnitOfWork, job: Job, dataset: Dataset) -> bool:
    """Offer the job to the trainers, or to its provider; False when it has moved on."""
    if job.provider is not None:
        return _hand_over(uow, job, dataset, job.provider)
    return _offer(uow, job, dataset)


def _hand_over(uow: UnitOfWork, job: Job, dataset: Dataset, provider: str) -> bool:
    """What is `auto` stays so: the provider chooses."""
    if not repository.move_job(
        uow,
        job.id,
        State.QUEUED,
        training_digest=dataset.training_digest,
        validation_digest=dataset.validation_digest,
    ):
        return False
    repository.add_event(uow, job.id, f"Files validated, handing the job to '{provider}'")
    begin_run(uow, job, provider)
    uow.audit("job.queued", job.id, reason=f"for the provider '{provider}'")
    return True


def _offer(uow: UnitOfWork, job: Job, dataset: Dataset) -> bool:
    """Replace `auto` by numbers."""
    resolved = resolve_auto(
        dataset.training_rows, dataset.training_tokens, job.hyperparameters, job.method
    )
    queued = repository.move_job(
        uow,
        job.id,
        State.QUEUED,
        training_digest=dataset.training_digest,
        validation_digest=dataset.validation_digest,
        hyperparameters=resolved.numbers,
    )
    if not queued:
        return False
    repository.add_event(uow, job.id, "Files validated, moving job to queued state")
    for reason in resolved.reasons:
        repository.add_event(uow, job.id, reason)
    leases.offer(uow, LEASE_KIND, job.id)
    uow.audit("job.queued", job.id, reason=" ".join(resolved.reasons))
    return True
