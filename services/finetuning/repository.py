"""All SQL of the room: its own tables, and the views of ingestion and releases it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CursorResult, func, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select

from services.finetuning.domain.states import State, sources_of
from services.finetuning.models import Checkpoint, Job, JobEvent
from shared.db import UnitOfWork
from shared.errors import Invalid, Missing
from shared.ids import new_id


@dataclass(frozen=True, slots=True)
class Adapter:
    """A fine-tuned model or checkpoint to go on from."""

    base: str
    peft_digest: str


@dataclass(frozen=True, slots=True)
class Route:
    """A workload and the model that is live there."""

    name: str
    live_model: str


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as ingestion shows it."""

    purpose: str
    digest: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """A sealed dataset as ingestion shows it; tokens of one pass over the training rows."""

    base: str
    training_digest: str
    validation_digest: str | None
    training_rows: int
    training_tokens: int


def add_job(uow: UnitOfWork, job: Job) -> None:
    uow.session.add(job)
    uow.session.flush()


def load_job(uow: UnitOfWork, job_id: str) -> Job:
    """
    Raises:
        Missing: The project has no such job.
    """
    job = uow.session.exec(
        select(Job).where(Job.id == job_id).execution_options(populate_existing=True)
    ).one_or_none()
    if job is None:
        raise Missing(f"There is no fine-tuning job '{job_id}'.", code="job_not_found", param="id")
    return job


def move_job(uow: UnitOfWork, job_id: str, target: State, **values: Any) -> bool:  # noqa: ANN401
    """
    Move a job to *target* and set the columns in *values*.

    Returns:
        False, and nothing has changed, when the job's state does not lead to *target*.
    """
    return _update(uow, job_id, sources_of(target), {"state": target, **values})


def update_running(uow: UnitOfWork, job_id: str, **values: Any) -> bool:  # noqa: ANN401
    """Set columns of a running job; False when it is not running any more."""
    return _update(uow, job_id, frozenset({State.RUNNING}), values)


def _update(uow: UnitOfWork, job_id: str, states: frozenset[State], values: dict[str, Any]) -> bool:
    changed: CursorResult[Any] = uow.session.execute(  # type: ignore[assignment]  # of an UPDATE
        update(Job)
        .where(col(Job.id) == job_id, col(Job.state).in_(states))
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    return changed.rowcount == 1


def list_jobs(
    uow: UnitOfWork, *, after: str | None, limit: int, metadata: dict[str, str] | None
) -> Sequence[Job]:
    """
    Up to `limit + 1` jobs, newest first, because ids sort by time.

    Args:
        uow: The unit of work.
        after: Id of the last job already seen.
        limit: Page size.
        metadata: Pairs a job must have; an empty dict wants jobs without any; None wants all.
    """
    query = select(Job).order_by(col(Job.id).desc()).limit(limit + 1)
    if after is not None:
        _check_cursor(uow, select(Job.id).where(Job.id == after), after)
        query = query.where(Job.id < after)
    if metadata == {}:
        query = query.where(col(Job.user_metadata).is_(None))
    elif metadata:
        query = query.where(col(Job.user_metadata).contains(metadata))
    return uow.session.exec(query).all()


def find_twin(uow: UnitOfWork, request_digest: str, window_seconds: float) -> Job | None:
    """The newest job the same request made within the window; the caller holds the turn."""
    return uow.session.exec(
        select(Job)
        .where(
            Job.request_digest == request_digest,
            text("created_at > now() - make_interval(secs => :window)").bindparams(
                window=window_seconds
            ),
        )
        .order_by(col(Job.id).desc())
        .limit(1)
    ).one_or_none()


def find_job_of_cycle(uow: UnitOfWork, cycle_id: str, dataset_id: str) -> Job | None:
    return uow.session.exec(
        select(Job).where(Job.cycle_id == cycle_id, Job.dataset_id == dataset_id)
    ).one_or_none()


def add_event(
    uow: UnitOfWork,
    job_id: str,
    message: str,
    *,
    level: str = "info",
    data: dict[str, Any] | None = None,
    step: int | None = None,
    event_id: str | None = None,
) -> bool:
    """Append an event; False when its id, or the step of a metrics event, is recorded already."""
    added = uow.session.execute(
        insert(JobEvent)
        .values(
            id=event_id or new_id("ftevent-"),
            project=uow.project,
            job_id=job_id,
            level=level,
            message=message,
            data=data,
            step=step,
            created_at=uow.now,
        )
        .on_conflict_do_nothing()
        .returning(col(JobEvent.id))
    )
    return added.scalar_one_or_none() is not None


def add_events(uow: UnitOfWork, job_id: str, events: Sequence[JobEvent]) -> None:
    """
    Append events of a job in their order; one whose id is recorded already is left out.

    A second one about a step is kept without its step.
    """
    steps = {event.step for event in events if event.step is not None}
    known = select(JobEvent.step).where(JobEvent.job_id == job_id, col(JobEvent.step).in_(steps))
    taken = set(uow.session.exec(known)) if steps else set()
    rows = []
    for event in events:
        step = None if event.step in taken else event.step
        rows.append(event.model_dump(exclude={"seq"}) | {"step": step})
        taken.add(event.step)
    uow.session.execute(insert(JobEvent).on_conflict_do_nothing(), rows)


def list_events(
    uow: UnitOfWork, job_id: str, *, after: str | None, limit: int
) -> Sequence[JobEvent]:
    """Up to `limit + 1` events, newest first."""
    query = (
        select(JobEvent)
        .where(JobEvent.job_id == job_id)
        .order_by(col(JobEvent.seq).desc())
        .limit(limit + 1)
    )
    if after is not None:
        seq = select(JobEvent.seq).where(JobEvent.id == after, JobEvent.job_id == job_id)
        query = query.where(col(JobEvent.seq) < _check_cursor(uow, seq, after))
    return uow.session.exec(query).all()


def find_last_step(uow: UnitOfWork, job_id: str) -> int:
    """The last recorded step, 0 for none."""
    last = select(func.max(JobEvent.step)).where(JobEvent.job_id == job_id)
    return uow.session.exec(last).one() or 0


def list_checkpoint_steps(uow: UnitOfWork, job_id: str) -> frozenset[int]:
    steps = select(Checkpoint.step_number).where(Checkpoint.job_id == job_id)
    return frozenset(uow.session.exec(steps))


def add_checkpoint(uow: UnitOfWork, checkpoint: Checkpoint) -> bool:
    """Append a checkpoint; False when this step of the job has one already."""
    added = uow.session.execute(
        insert(Checkpoint)
        .values(**checkpoint.model_dump())
        .on_conflict_do_nothing()
        .returning(col(Checkpoint.id))
    )
    return added.scalar_one_or_none() is not None


def list_checkpoints(
    uow: UnitOfWork, job_id: str, *, after: str | None, limit: int
) -> Sequence[Checkpoint]:
    """Up to `limit + 1` checkpoints, newest first."""
    query = (
        select(Checkpoint)
        .where(Checkpoint.job_id == job_id)
        .order_by(col(Checkpoint.step_number).desc())
        .limit(limit + 1)
    )
    if after is not None:
        step = select(Checkpoint.step_number).where(
            Checkpoint.id == after, Checkpoint.job_id == job_id
        )
        query = query.where(col(Checkpoint.step_number) < _check_cursor(uow, step, after))
    return uow.session.exec(query).all()


def _check_cursor(uow: UnitOfWork, query: Any, after: str) -> Any:  # noqa: ANN401 - select of one
    position = uow.session.exec(query).one_or_none()
    if position is None:
        raise Invalid(
            f"after: there is no item '{after}' in this list.", code="unknown_cursor", param="after"
        )
    return position


def find_file(uow: UnitOfWork, file_id: str) -> StoredFile | None:
    row = uow.session.execute(
        text("SELECT purpose, digest FROM ingestion.files_v1 WHERE file_id = :id"), {"id": file_id}
    ).one_or_none()
    return None if row is None else StoredFile(*row)


def find_dataset(uow: UnitOfWork, dataset_id: str) -> Dataset | None:
    row = uow.session.execute(
        text("""
            SELECT base, training_digest, validation_digest, training_rows, training_tokens
            FROM ingestion.datasets_v1 WHERE dataset_id = :id AND state = 'sealed'
        """),
        {"id": dataset_id},
    ).one_or_none()
    return None if row is None else Dataset(*row)


def list_unregistered(uow: UnitOfWork, model_ids: Sequence[str]) -> frozenset[str]:
    """Those of *model_ids* that nobody can ask yet, as their message is still under way."""
    rows = uow.session.execute(
        text("""
            SELECT model FROM unnest(CAST(:models AS text[])) AS model
            WHERE NOT EXISTS (SELECT FROM releases.models_v1 WHERE model_id = model)
        """),
        {"models": list(model_ids)},
    )
    return frozenset(rows.scalars())


def find_route(uow: UnitOfWork, name: str) -> Route | None:
    """The workload that has this name or alias; its base is about to be live when nothing is."""
    row = uow.session.execute(
        text("""
            SELECT w.name, coalesce(r.live_model, w.base_model)
            FROM workloads.workloads_v1 w
            LEFT JOIN releases.routes_v1 r USING (project, workload_id)
            WHERE w.name = :name OR :name = ANY(w.aliases)
        """),
        {"name": name},
    ).one_or_none()
    return None if row is None else Route(*row)


def find_adapter(uow: UnitOfWork, model_id: str) -> Adapter | None:
    """A model of this project that was not deleted.

    A model is registered by a message; in the moment before that it is known from our own rows.
    """
    row = uow.session.execute(
        text("""
            SELECT base, peft_digest, is_deleted FROM (
                SELECT 1 AS preference, base, peft_digest, deleted_at IS NOT NULL AS is_deleted
                FROM releases.models_v1 WHERE model_id = :id
                UNION ALL
                SELECT 2, base, peft_digest, false FROM finetuning.jobs
                WHERE fine_tuned_model = :id
                UNION ALL
                SELECT 2, j.base, c.peft_digest, false FROM finetuning.checkpoints c
                JOIN finetuning.jobs j ON j.id = c.job_id WHERE c.model_id = :id
            ) known
            WHERE peft_digest IS NOT NULL ORDER BY preference LIMIT 1
        """),
        {"id": model_id},
    ).one_or_none()
    return None if row is None or row.is_deleted else Adapter(row.base, row.peft_digest)


def find_providers_model(uow: UnitOfWork, model_id: str) -> bool:
    """Whether a job of this project made the model, or a checkpoint, at a provider."""
    found = uow.session.execute(
        text("""
            SELECT FROM finetuning.jobs
            WHERE fine_tuned_model = :id AND provider IS NOT NULL
            UNION ALL
            SELECT FROM finetuning.checkpoints WHERE model_id = :id AND peft_digest IS NULL
        """),
        {"id": model_id},
    )
    return found.first() is not None
