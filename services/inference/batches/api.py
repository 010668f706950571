"""HTTP adapter of batches, in OpenAI's shape."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query

from services.inference.batches import repository
from services.inference.batches.schemas import BatchObject, CreateBatchBody
from services.inference.batches.service import CreateBatch, cancel_batch, create_batch
from services.inference.settings import inference_settings
from shared.backpressure import Addition
from shared.http import Unit, authorised
from shared.idempotency import CreatingRoute
from shared.keys import Caller
from shared.pages import Page, page_of

router = APIRouter(prefix="/v1/batches", route_class=CreatingRoute)

# Whoever may ask may ask later; a batch shows nothing but what its maker asked.
MayInfer = Annotated[Caller, authorised("inference:write")]
Retries = Annotated[int, Header(alias="x-stainless-retry-count", ge=0)]


@router.post("")
def create(
    caller: MayInfer, uow: Addition, body: CreateBatchBody, retries: Retries = 0
) -> BatchObject:
    """Make a batch of a file; a request the client marks as repeated gets the one it made."""
    settings = inference_settings()
    expiry = body.output_expires_after
    command = CreateBatch(
        input_file=body.input_file_id,
        endpoint=body.endpoint,
        metadata=body.metadata,
        expires_after_seconds=expiry.seconds if expiry else None,
        # Two keys of a project that ask for the same thing mean two batches.
        request_digest=f"{caller.key_id}:{body.digest}",
        is_repetition=retries > 0,
    )
    batch = create_batch(
        uow,
        command,
        max_file_bytes=settings.batch_max_file_bytes,
        retry_window_seconds=settings.batch_retry_window_seconds,
    )
    return BatchObject.of(batch)


@router.get("")
def list_all(
    _: MayInfer,
    uow: Unit,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Page[BatchObject]:
    """Batches, newest first."""
    batches = repository.list_batches(uow, after=after, limit=limit)
    return page_of([BatchObject.of(batch) for batch in batches], limit)


@router.get("/{batch_id}")
def retrieve(_: MayInfer, uow: Unit, batch_id: str) -> BatchObject:
    """One batch."""
    return BatchObject.of(repository.load_batch(uow, batch_id))


@router.post("/{batch_id}/cancel")
def cancel(_: MayInfer, uow: Unit, batch_id: str, retries: Retries = 0) -> BatchObject:
    """Have a batch stop that is not at its end; what was answered is written."""
    return BatchObject.of(cancel_batch(uow, batch_id, is_repetition=retries > 0))
