"""HTTP adapter of feedback."""

from __future__ import annotations

from typing import Annotated, Literal, cast

from fastapi import APIRouter

from services.feedback import service
from services.feedback.domain import Label
from services.feedback.schemas import CreateFeedback, FeedbackObject
from shared.backpressure import Addition
from shared.http import authorised
from shared.idempotency import CreatingRoute
from shared.keys import Caller
from shared.process import process_secret

router = APIRouter(route_class=CreatingRoute)


@router.post("/api/v1/feedback")
def create_feedback(
    body: CreateFeedback, caller: Annotated[Caller, authorised("feedback:write")], uow: Addition
) -> FeedbackObject:
    """Say how an answer was; its id is the `x-inference-id` header that came with it."""
    recorded = service.record_feedback(
        uow,
        inference_id=body.inference_id,
        label=Label(**body.model_dump(exclude={"inference_id"})),
        receipt_keys=_receipt_keys(),
    )
    return FeedbackObject(
        id=recorded.feedback_id,
        inference_id=body.inference_id,
        outcome=cast(
            "Literal['success', 'failure', 'pending', 'counted', 'none']", recorded.outcome
        ),
    )


def _receipt_keys() -> list[bytes]:
    secret = process_secret("receipt_key")
    # The process that answered may have been quicker to see a new key.
    secret.look()
    return [value.encode() for value in secret.values.accepted]
