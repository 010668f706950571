"""The one way a job ends with a model, whoever trained it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.finetuning import repository
from services.finetuning.domain.states import State
from services.finetuning.models import Job
from shared.contracts.finetuning import JobSucceeded
from shared.contracts.ingestion import ResultFileStored
from shared.db import UnitOfWork
from shared.ids import Digest, new_id


@dataclass(frozen=True)
class ResultFile:
    """The metrics of a job as CSV, in the blob store."""

    digest: Digest
    bytes: int


def succeed_job(
    uow: UnitOfWork,
    job: Job,
    *,
    model: str,
    result: ResultFile | None,
    trained_tokens: int | None,
    columns: dict[str, Any] | None = None,
    facts: dict[str, Any] | None = None,
) -> bool:
    """
    End a running job with its model: result file, events and facts, all or nothing.

    Args:
        uow: The transaction.
        job: As it is now.
        model: Its name here.
        result: None where there is none.
        trained_tokens: With repetitions; None where nobody counted them.
        columns: Further columns of the job.
        facts: Further facts for the audit log.

    Returns:
        False, and nothing has changed, when the job is not running any more.
    """
    result_file = new_id("file-") if result else None
    if not repository.move_job(
        uow,
        job.id,
        State.SUCCEEDED,
        fine_tuned_model=model,
        trained_tokens=trained_tokens,
        result_file=result_file,
        estimated_finish=None,
        finished_at=uow.now,
        **(columns or {}),
    ):
        return False
    if result and result_file:
        uow.emit(
            ResultFileStored(
                file_id=result_file,
                filename="step_metrics.csv",
                digest=result.digest,
                bytes=result.bytes,
            )
        )
    repository.add_event(uow, job.id, f"New fine-tuned model created: {model}")
    repository.add_event(uow, job.id, "The job has successfully completed")
    uow.emit(
        JobSucceeded(
            job_id=job.id, model_id=model, dataset_id=job.dataset_id, cycle_id=job.cycle_id
        )
    )
    uow.audit(
        "job.succeeded",
        job.id,
        facts={"model": model, "trained_tokens": trained_tokens, **(facts or {})},
    )
    return True
