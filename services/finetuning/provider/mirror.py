"""Write down in our job what a provider says of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from services.finetuning import repository
from services.finetuning.domain.provider import Phase, meaning_of, moves_to, step_of
from services.finetuning.domain.states import TERMINAL, State
from services.finetuning.models import Checkpoint, Job, JobEvent, ProviderRun
from services.finetuning.provider.ports import RemoteCheckpoint, RemoteEvent, RemoteJob
from services.finetuning.service.ending import fail_job, record_cancellation
from services.finetuning.service.succeeding import ResultFile, succeed_job
from shared.db import UnitOfWork
from shared.ids import new_id

MAX_EVENTS = 20_000
"""Of a job; a provider that tells more, or the same under new ids, is not listened to further."""


@dataclass(frozen=True)
class Look:
    """What one look at a job found: its state, and what is new since the last, oldest first."""

    job: RemoteJob
    events: Sequence[RemoteEvent]
    checkpoints: Sequence[RemoteCheckpoint]


def record_look(look: Look, uow: UnitOfWork, run: ProviderRun, job: Job) -> None:
    """Events and checkpoints once each, then the state. An ended job stays as it is."""
    if job.state in TERMINAL:
        return
    status = look.job.status
    meant = meaning_of(status)
    is_word_new = meant is not None and status != run.remote_status
    news = _record_events(uow, run, job, look.events) + _record_checkpoints(
        uow, run, job, look.checkpoints
    )
    run.quiet_looks = 0 if news or is_word_new else run.quiet_looks + 1
    run.remote_status = status
    if meant is None:
        _warn_of(uow, job, status)
        return
    _record_state(uow, run, job, look.job, meant)


def record_success(
    uow: UnitOfWork,
    run: ProviderRun,
    job: Job,
    *,
    remote: RemoteJob,
    model: str,
    result: ResultFile | None,
) -> None:
    """The model is there: end the job with it, unless it has ended otherwise meanwhile."""
    for state in moves_to(State(job.state), State.RUNNING):
        repository.move_job(uow, job.id, state)
    has_succeeded = succeed_job(
        uow,
        job,
        model=_ours(run, model),
        result=result,
        trained_tokens=remote.trained_tokens,
        columns={"hyperparameters": {**job.hyperparameters, **remote.hyperparameters}},
    )
    if has_succeeded and result is None:
        repository.add_event(uow, job.id, "The provider has no result file", level="warn")
    run.phase = Phase.TIDYING


def _record_state(
    uow: UnitOfWork, run: ProviderRun, job: Job, remote: RemoteJob, meant: State
) -> None:
    match meant:
        case State.SUCCEEDED:
            run.phase = Phase.COLLECTING
        case State.FAILED:
            _record_failure(uow, job, remote)
            run.phase = Phase.TIDYING
        case State.CANCELLED:
            record_cancellation(uow, job, "by the provider, or by somebody with its key")
            run.phase = Phase.TIDYING
        case _:
            _record_progress(uow, job, remote, meant)


def _record_progress(uow: UnitOfWork, job: Job, remote: RemoteJob, meant: State) -> None:
    for state in moves_to(State(job.state), meant):
        is_paused = state is State.PAUSED
        rest = {"estimated_finish": None} if is_paused else {}
        repository.move_job(uow, job.id, state, **rest)
        if is_paused:
            repository.add_event(uow, job.id, "The job was paused")
    repository.update_running(
        uow,
        job.id,
        hyperparameters={**job.hyperparameters, **remote.hyperparameters},
        estimated_finish=remote.estimated_finish,
    )


def _record_failure(uow: UnitOfWork, job: Job, remote: RemoteJob) -> None:
    error = remote.error
    fail_job(
        uow,
        job.id,
        code=error.code if error else "provider_failed",
        message=error.message if error else "The provider failed and did not say why.",
        param=error.param if error else None,
    )


def _record_events(
    uow: UnitOfWork, run: ProviderRun, job: Job, events: Sequence[RemoteEvent]
) -> int:
    if not events:
        return 0
    repository.add_events(uow, job.id, [_event(uow, job, event) for event in events])
    run.last_event = events[-1].id
    run.events += len(events)
    if run.events >= MAX_EVENTS:
        message = f"The provider told {run.events} events; later ones are left out"
        _warn_once(uow, job, message, about="too many events")
    return len(events)


def _event(uow: UnitOfWork, job: Job, event: RemoteEvent) -> JobEvent:
    data = dict(event.data) if event.data is not None else None
    return JobEvent(
        id=_event_id(job.id, event.id),
        project=uow.project,
        job_id=job.id,
        level=event.level,
        message=event.message,
        data=data,
        step=step_of(data),
        created_at=uow.now,
    )


def _event_id(job_id: str, remote_id: str) -> str:
    """The same for the same event, so that it is recorded once however often it is told."""
    return f"ftevent-{hashlib.sha256(f'{job_id} {remote_id}'.encode()).hexdigest()[:32]}"


def _record_checkpoints(
    uow: UnitOfWork, run: ProviderRun, job: Job, checkpoints: Sequence[RemoteCheckpoint]
) -> int:
    return sum(
        repository.add_checkpoint(
            uow,
            Checkpoint(
                id=new_id("ftckpt_"),
                project=uow.project,
                job_id=job.id,
                step_number=each.step,
                model_id=_ours(run, each.model),
                metrics={"step": each.step, **each.metrics},
                created_at=uow.now,
            ),
        )
        for each in checkpoints
    )


def _ours(run: ProviderRun, model: str) -> str:
    return f"{run.provider}/{model}"


def _warn_of(uow: UnitOfWork, job: Job, status: str) -> None:
    message = f"The provider says the job is {status!r}, which is not known here"
    _warn_once(uow, job, f"{message}; it is looked at again", about="a word nobody knows")


def _warn_once(uow: UnitOfWork, job: Job, message: str, *, about: str) -> None:
    # No provider's id has a space in it.
    repository.add_event(uow, job.id, message, level="warn", event_id=_event_id(job.id, about))
