"""Messages that move cycles."""

from __future__ import annotations

from services.workloads.service import cycles
from shared.contracts.drift import DriftDetected
from shared.contracts.evaluation import EvaluationCompleted
from shared.contracts.feedback import CorrectionRecorded, CorrectionsCurated
from shared.contracts.finetuning import JobCancelled, JobCreated, JobFailed, JobSucceeded
from shared.contracts.ingestion import DatasetRefused, DatasetSealed
from shared.contracts.releases import ReleasePromoted, ReleaseRolledBack, ReleaseStarted
from shared.contracts.workloads import CheckCycleDeadline
from shared.db import UnitOfWork
from shared.task import task


@task("workloads.check_deadline", CheckCycleDeadline)
def check_deadline(uow: UnitOfWork, message: CheckCycleDeadline) -> None:
    """Expire the cycle if it is still in the step; emitted to be due at the deadline."""
    cycles.hear(uow, message.cycle_id, message)


@task("workloads.hear_drift", DriftDetected)
def hear_drift(uow: UnitOfWork, message: DriftDetected) -> None:
    """Open a cycle where the policy allows it."""
    cycles.answer_alert(uow, message)


@task("workloads.hear_correction", CorrectionRecorded)
def hear_correction(uow: UnitOfWork, message: CorrectionRecorded) -> None:
    """Count; the lane keeps the counts in order."""
    cycles.hear_correction(uow, message)


@task("workloads.hear_corrections", CorrectionsCurated)
def hear_corrections(uow: UnitOfWork, message: CorrectionsCurated) -> None:
    """Go on to sealing."""
    cycles.hear(uow, message.cycle_id, message)


@task("workloads.hear_dataset", DatasetSealed)
def hear_dataset(uow: UnitOfWork, message: DatasetSealed) -> None:
    """Go on to the job, if a cycle asked for the dataset."""
    if message.requester.kind == "cycle":
        cycles.hear(uow, message.requester.id, message)


@task("workloads.hear_refusal", DatasetRefused)
def hear_refusal(uow: UnitOfWork, message: DatasetRefused) -> None:
    """Close the cycle, if one asked for the dataset."""
    if message.requester.kind == "cycle":
        cycles.hear(uow, message.requester.id, message)


@task("workloads.hear_job", JobCreated)
def hear_job(uow: UnitOfWork, message: JobCreated) -> None:
    """Note which job the cycle waits for."""
    cycles.hear(uow, message.cycle_id, message)


@task("workloads.hear_job_success", JobSucceeded)
def hear_job_success(uow: UnitOfWork, message: JobSucceeded) -> None:
    """Go on to the evaluation."""
    cycles.hear(uow, message.cycle_id, message)


@task("workloads.hear_job_failure", JobFailed)
def hear_job_failure(uow: UnitOfWork, message: JobFailed) -> None:
    """Close the cycle."""
    cycles.hear(uow, message.cycle_id, message)


@task("workloads.hear_job_cancellation", JobCancelled)
def hear_job_cancellation(uow: UnitOfWork, message: JobCancelled) -> None:
    """Close the cycle."""
    cycles.hear(uow, message.cycle_id, message)


@task("workloads.hear_evaluation", EvaluationCompleted)
def hear_evaluation(uow: UnitOfWork, message: EvaluationCompleted) -> None:
    """Go on to the release, or close the cycle, as the gate says."""
    cycles.hear(uow, message.cycle_id, message)


@task("workloads.hear_release", ReleaseStarted)
def hear_release(uow: UnitOfWork, message: ReleaseStarted) -> None:
    """Note which canary the cycle waits for."""
    cycles.hear(uow, message.cycle_id, message)


@task("workloads.hear_promotion", ReleasePromoted)
def hear_promotion(uow: UnitOfWork, message: ReleasePromoted) -> None:
    """Close the cycle: its model is live."""
    cycles.hear(uow, message.cycle_id, message)


@task("workloads.hear_rollback", ReleaseRolledBack)
def hear_rollback(uow: UnitOfWork, message: ReleaseRolledBack) -> None:
    """Close the cycle: its model was not good enough."""
    cycles.hear(uow, message.cycle_id, message)
