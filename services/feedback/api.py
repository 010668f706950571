"""HTTP adapter of feedback."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal, cast

from fastapi import APIRouter

from services.feedback import service
from services.feedback.domain import Label
from services.feedback.schemas import CreateFeedback, FeedbackObject
from shared.http import authorised
from shared.idempotency import CreatingRoute, Creation
from shared.keys import Caller
from shared.process import process_settings

router = APIRouter(route_class=CreatingRoute)


@router.post("/api/v1/feedback")
def create_feedback(
    body: CreateFeedback, caller: Annotated[Caller, authorised("feedback:write")], uow: Creation
) -> FeedbackObject:
    """Say how an answer was; its id is the `x-inference-id` header that came with it."""
    recorded = service.record_feedback(
        uow,
        inference_id=body.inference_id,
        label=Label(**body.model_dump(exclude={"inference_id"})),
        receipt_key=_receipt_key(),
    )
    return FeedbackObject(
        id=recorded.feedback_id,
        inference_id=body.inference_id,
        outcome=cast(
            "Literal['success', 'failure', 'pending', 'counted', 'none']", recorded.outcome
        ),
    )


@cache
def _receipt_key() -> bytes:
    return process_settings().secret("receipt_key").get_secret_value().encode()
