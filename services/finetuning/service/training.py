"""What the trainer writes; every function holds the lease and writes nothing without it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from services.finetuning import repository
from services.finetuning.domain import names, progress
from services.finetuning.domain.progress import Metrics
from services.finetuning.domain.states import TERMINAL, State
from services.finetuning.models import Checkpoint, Job
from services.finetuning.service.ending import fail_job
from services.finetuning.service.succeeding import ResultFile, succeed_job
from shared.contracts.finetuning import ModelCreated
from shared.db import UnitOfWork
from shared.ids import Digest, new_id, random_base62
from shared.spine import leases
from shared.spine.leases import Lease

_NAME_CHARACTERS = 8


@dataclass(frozen=True)
class Weights:
    """An adapter in the blob store: as GGUF, and as a tar of the PEFT folder."""

    gguf_digest: Digest
    peft_digest: Digest


@dataclass(frozen=True)
class Step:
    """A finished step; `metrics` as in `domain.progress`."""

    step: int
    total_steps: int
    metrics: Metrics


@dataclass(frozen=True)
class Pace:
    """When the child began to train, and after which step."""

    since: datetime
    first_step: int


@dataclass(frozen=True)
class Recorded:
    """Steps up to `last_step` (0 for none) are recorded, and checkpoints at these steps."""

    last_step: int
    checkpoints: frozenset[int]


@dataclass(frozen=True)
class Outcome:
    """What a finished run left behind; `trained_tokens` counts repeats."""

    step: int
    weights: Weights
    trained_tokens: int
    result_digest: Digest
    result_bytes: int


def start_job(uow: UnitOfWork, lease: Lease, *, max_attempts: int) -> Job | None:
    """
    Begin or resume the job under *lease*.

    Returns:
        None when there is nothing to train: it has ended, or now ends because too many starts
        came to nothing.

    Raises:
        LeaseLost: Somebody else has the job, or it was cancelled.
    """
    leases.guard(uow, lease)
    job = repository.load_job(uow, lease.subject)
    if job.state in TERMINAL:
        leases.finish(uow, lease)
        return None
    # Those of a job that was paused are over.
    if job.state == State.RUNNING and job.attempts >= max_attempts:
        fail_job(
            uow,
            job.id,
            code="trainer_died",
            message=f"Training was started {job.attempts} times in a row without finishing a "
            "step; the trainer's log says why.",
        )
        return None
    if repository.move_job(uow, job.id, State.RUNNING, attempts=1):
        last_step = repository.find_last_step(uow, job.id)
        repository.add_event(
            uow,
            job.id,
            f"Training goes on after step {last_step}" if last_step else "Fine-tuning job started",
        )
    else:
        repository.update_running(uow, job.id, attempts=job.attempts + 1)
        repository.add_event(
            uow,
            job.id,
            "Training was interrupted and goes on from its last saved state",
            level="warn",
        )
    uow.audit("job.started", job.id, facts={"fence": lease.fence, "attempts": job.attempts + 1})
    return repository.load_job(uow, job.id)


def find_recorded(uow: UnitOfWork, lease: Lease) -> Recorded:
    """How far the job's records go."""
    return Recorded(
        last_step=repository.find_last_step(uow, lease.subject),
        checkpoints=repository.list_checkpoint_steps(uow, lease.subject),
    )


def record_step(uow: UnitOfWork, lease: Lease, step: Step, pace: Pace) -> None:
    """Append the metrics of a step, once."""
    leases.guard(uow, lease)
    data = {
        "step": step.step,
        "total_steps": step.total_steps,
        **progress.measured(step.metrics),
    }
    message = progress.describe_step(step.step, step.total_steps, step.metrics)
    is_new = repository.add_event(uow, lease.subject, message, data=data, step=step.step)
    finish = progress.estimate_finish(
        now=uow.now,
        started=pace.since,
        first_step=pace.first_step,
        step=step.step,
        total_steps=step.total_steps,
    )
    forgiven = {"attempts": 0} if is_new else {}
    repository.update_running(uow, lease.subject, estimated_finish=finish, **forgiven)


def record_checkpoint(
    uow: UnitOfWork, lease: Lease, step: int, metrics: Metrics, weights: Weights
) -> None:
    """Store a checkpoint, once, and announce it as a model."""
    leases.guard(uow, lease)
    job = repository.load_job(uow, lease.subject)
    model = names.name_checkpoint(
        job.base, uow.project, job.suffix, random_base62(_NAME_CHARACTERS), step
    )
    checkpoint = Checkpoint(
        id=new_id("ftckpt_"),
        project=uow.project,
        job_id=job.id,
        step_number=step,
        model_id=model,
        metrics={"step": step, **progress.measured(metrics)},
        gguf_digest=weights.gguf_digest,
        peft_digest=weights.peft_digest,
        created_at=uow.now,
    )
    if repository.add_checkpoint(uow, checkpoint):
        repository.add_event(
            uow, job.id, f"Checkpoint created at step {step} with Snapshot ID: {model}"
        )
        _announce_model(uow, job, model, "checkpoint", weights)


def record_warning(uow: UnitOfWork, lease: Lease, code: str, message: str) -> None:
    leases.guard(uow, lease)
    repository.add_event(uow, lease.subject, message, level="warn", data={"code": code})


def record_early_stop(uow: UnitOfWork, lease: Lease, step: int, best_step: int) -> None:
    """Say why there are fewer steps than announced, and which weights are kept."""
    leases.guard(uow, lease)
    repository.add_event(
        uow,
        lease.subject,
        f"Training stopped after step {step}: the validation loss no longer improves. "
        f"The weights after step {best_step} are kept",
    )


def complete_job(uow: UnitOfWork, lease: Lease, outcome: Outcome) -> None:
    """The end of a successful job: model, result file, facts, and the lease, all or nothing."""
    leases.guard(uow, lease)
    job = repository.load_job(uow, lease.subject)
    model = names.name_model(job.base, uow.project, job.suffix, random_base62(_NAME_CHARACTERS))
    has_succeeded = succeed_job(
        uow,
        job,
        model=model,
        result=ResultFile(outcome.result_digest, outcome.result_bytes),
        trained_tokens=outcome.trained_tokens,
        columns={
            "gguf_digest": outcome.weights.gguf_digest,
            "peft_digest": outcome.weights.peft_digest,
        },
        facts={"step": outcome.step, "gguf_digest": outcome.weights.gguf_digest},
    )
    if not has_succeeded:
        return
    _announce_model(uow, job, model, "fine_tuned", outcome.weights)
    leases.finish(uow, lease)


def forgive_attempt(uow: UnitOfWork, lease: Lease) -> None:
    """Count no attempt for a trainer that was told to stop."""
    leases.guard(uow, lease)
    repository.update_running(uow, lease.subject, attempts=0)


def _announce_model(
    uow: UnitOfWork,
    job: Job,
    model: str,
    kind: Literal["fine_tuned", "checkpoint"],
    weights: Weights,
) -> None:
    uow.emit(
        ModelCreated(
            model_id=model,
            kind=kind,
            base=job.base,
            parent=job.model,
            job_id=job.id,
            dataset_id=job.dataset_id,
            gguf_digest=weights.gguf_digest,
            peft_digest=weights.peft_digest,
        )
    )
