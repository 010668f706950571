"""Who consumes what: the only routing table. A test holds it against the registered tasks."""

from __future__ import annotations

from shared.contracts import (
    batches,
    drift,
    evaluation,
    feedback,
    finetuning,
    ingestion,
    releases,
    workloads,
)
from shared.contracts.envelope import Message

CONSUMERS: dict[type[Message], tuple[str, ...]] = {
    workloads.WorkloadCreated: ("releases.install_base",),
    workloads.CycleOpened: (),
    workloads.CycleClosed: (),
    workloads.CheckCycleDeadline: ("workloads.check_deadline",),
    ingestion.FileUploaded: ("ingestion.check_file",),
    ingestion.ResultFileStored: ("ingestion.adopt_file",),
    ingestion.OutputFileStored: ("ingestion.adopt_output",),
    ingestion.SealDataset: ("ingestion.seal_dataset",),
    ingestion.DatasetSealed: ("finetuning.accept_dataset", "workloads.hear_dataset"),
    ingestion.DatasetRefused: ("finetuning.refuse_dataset", "workloads.hear_refusal"),
    finetuning.SubmitJob: ("finetuning.submit_job",),
    finetuning.ContinueJob: ("finetuning.continue_job",),
    finetuning.JobCreated: ("workloads.hear_job",),
    finetuning.JobSucceeded: ("workloads.hear_job_success",),
    finetuning.JobFailed: ("workloads.hear_job_failure",),
    finetuning.JobCancelled: ("workloads.hear_job_cancellation",),
    finetuning.ModelCreated: ("releases.register_model",),
    evaluation.StartEvaluation: ("evaluation.start_evaluation",),
    evaluation.ContinueEvaluation: ("evaluation.continue_evaluation",),
    evaluation.EvaluationCompleted: ("workloads.hear_evaluation",),
    releases.StartRelease: ("releases.start_release",),
    releases.LoadRelease: ("releases.load_release",),
    releases.FoldCanary: ("releases.fold_canary",),
    releases.AnnounceRetirements: ("releases.announce_retirements",),
    releases.RetirementAnnounced: (),
    releases.ReleaseStarted: ("workloads.hear_release",),
    releases.ReleasePromoted: ("workloads.hear_promotion", "drift.pin_baseline"),
    releases.ReleaseRolledBack: ("workloads.hear_rollback",),
    batches.BatchCompleted: (),
    batches.BatchFailed: (),
    batches.BatchCancelled: (),
    batches.BatchExpired: (),
    feedback.ResolveOutcome: ("feedback.resolve_outcome",),
    feedback.CorrectionRecorded: ("workloads.hear_correction",),
    feedback.CurateCorrections: ("feedback.curate_corrections",),
    feedback.CorrectionsCurated: ("workloads.hear_corrections",),
    drift.FoldMonitor: ("drift.fold_monitor",),
    drift.DriftDetected: ("workloads.hear_drift",),
}

BY_TYPE: dict[str, type[Message]] = {message.type: message for message in CONSUMERS}


def consumers_of(message: type[Message]) -> tuple[str, ...]:
    """Names of the tasks that get a delivery of *message*.

    Raises:
        KeyError: The message is not in the catalogue; add it with its consumers.
    """
    return CONSUMERS[message]
