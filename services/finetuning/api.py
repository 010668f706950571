"""HTTP adapter of the room: OpenAI's fine-tuning jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, FastAPI, Header, Query, Request

from services.finetuning import repository
from services.finetuning.bootstrap import process_providers
from services.finetuning.domain import request as rules
from services.finetuning.domain.methods import SUPERVISED
from services.finetuning.models import Job
from services.finetuning.schemas import CheckpointObject, CreateJobBody, EventObject, JobObject
from services.finetuning.service.create import CreateJob, create_job
from services.finetuning.service.ending import cancel_job
from services.finetuning.service.pausing import pause_job, resume_job
from services.finetuning.settings import finetuning_settings
from shared.backpressure import Addition, Room
from shared.db import UnitOfWork
from shared.errors import Invalid
from shared.http import Unit, authorised
from shared.idempotency import CreatingRoute
from shared.keys import Caller
from shared.metadata import read_filter
from shared.pages import Page, page_of

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"], route_class=CreatingRoute)

Limit = Annotated[int, Query(ge=1, le=100)]
Retries = Annotated[int, Header(alias="x-stainless-retry-count", ge=0)]


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """A gateway whose providers cannot be read says so when it starts, and not to a caller."""
    process_providers()
    yield


@router.post("")
def create(
    caller: Annotated[Caller, authorised("jobs:write")],
    uow: Addition,
    body: CreateJobBody,
    retries: Retries = 0,
) -> JobObject:
    """Create a job; a request the client marks as repeated gets the job it made before."""
    job = create_job(
        uow,
        _command(body, caller, is_repetition=retries > 0),
        providers=process_providers(),
        retry_window_seconds=finetuning_settings().retry_window_seconds,
    )
    return _shown(uow, job)


@router.get("")
def list_all(
    _: Annotated[Caller, authorised("jobs:read")],
    uow: Unit,
    request: Request,
    after: str | None = None,
    limit: Limit = 20,
) -> Page[JobObject]:
    """Jobs, newest first; `metadata[key]=value` selects, `metadata=null` wants those without."""
    wanted = read_filter(request.query_params)
    jobs = repository.list_jobs(uow, after=after, limit=limit, metadata=wanted)
    return page_of(_all_shown(uow, jobs), limit)


@router.get("/{job_id}")
def retrieve(_: Annotated[Caller, authorised("jobs:read")], uow: Unit, job_id: str) -> JobObject:
    """One job."""
    return _shown(uow, repository.load_job(uow, job_id))


@router.post("/{job_id}/cancel")
def cancel(
    _: Annotated[Caller, authorised("jobs:write")], uow: Unit, job_id: str, retries: Retries = 0
) -> JobObject:
    """Cancel a job that has not ended."""
    return _shown(uow, cancel_job(uow, job_id, is_repetition=retries > 0))


@router.post("/{job_id}/pause")
def pause(
    _: Annotated[Caller, authorised("jobs:write")], uow: Unit, job_id: str, retries: Retries = 0
) -> JobObject:
    """Stop a running job for a while; it keeps what it has learned."""
    return _shown(uow, pause_job(uow, job_id, is_repetition=retries > 0))


@router.post("/{job_id}/resume")
def resume(
    _: Annotated[Caller, authorised("jobs:write")],
    room: Room,
    uow: Unit,
    job_id: str,
    retries: Retries = 0,
) -> JobObject:
    """Go on with a paused job."""
    del room  # the dependency has done its work
    return _shown(uow, resume_job(uow, job_id, is_repetition=retries > 0))


@router.get("/{job_id}/events")
def list_events(
    _: Annotated[Caller, authorised("jobs:read")],
    uow: Unit,
    job_id: str,
    after: str | None = None,
    limit: Limit = 20,
) -> Page[EventObject]:
    """What happened to a job, newest first."""
    job = repository.load_job(uow, job_id)
    events = repository.list_events(uow, job.id, after=after, limit=limit)
    return page_of([EventObject.of(event) for event in events], limit)


@router.get("/{job_id}/checkpoints")
def list_checkpoints(
    _: Annotated[Caller, authorised("jobs:read")],
    uow: Unit,
    job_id: str,
    after: str | None = None,
    limit: Limit = 10,
) -> Page[CheckpointObject]:
    """Checkpoints of a job, newest first; each is a model."""
    job = repository.load_job(uow, job_id)
    found = repository.list_checkpoints(uow, job.id, after=after, limit=limit)
    return page_of([CheckpointObject.of(checkpoint) for checkpoint in found], limit)


def _shown(uow: UnitOfWork, job: Job) -> JobObject:
    return _all_shown(uow, [job])[0]


def _all_shown(uow: UnitOfWork, jobs: Sequence[Job]) -> list[JobObject]:
    # A provider's model is asked there; nobody registers it here.
    models = [job.fine_tuned_model for job in jobs if job.fine_tuned_model and not job.provider]
    return JobObject.list_of(jobs, repository.list_unregistered(uow, models) if models else ())


def _command(body: CreateJobBody, caller: Caller, *, is_repetition: bool) -> CreateJob:
    method = body.method.type if body.method is not None else SUPERVISED
    rules.check_method(method)
    if body.integrations:
        raise Invalid(
            "integrations: this server reports to nobody else; leave the field out.",
            code="unsupported_integration",
            param="integrations",
        )
    return CreateJob(
        model=body.model,
        training_file=body.training_file,
        validation_file=body.validation_file,
        suffix=body.suffix,
        seed=body.seed,
        method=method,
        hyperparameters=_hyperparameters(body, method),
        metadata=body.metadata,
        # Two keys of a project that ask for the same thing mean two jobs.
        request_digest=f"{caller.key_id}:{body.digest}",
        is_repetition=is_repetition,
    )


def _hyperparameters(body: CreateJobBody, method: str) -> dict[str, object]:
    """Those of `method` where it has some, else the older top-level ones."""
    of_method = getattr(body.method, method, None)
    if of_method is not None and of_method.hyperparameters is not None:
        path, given = f"method.{method}.hyperparameters", of_method.hyperparameters.model_dump()
    elif body.hyperparameters is not None:
        path, given = "hyperparameters", body.hyperparameters.model_dump()
    else:
        path, given = "hyperparameters", {}
    numbers: dict[str, object] = rules.read_hyperparameters(given, path).model_dump()
    return numbers if method == SUPERVISED else {**numbers, "beta": rules.read_beta(given, path)}
