"""HTTP models of feedback."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool


class CreateFeedback(BaseModel):
    """What is said about one answer; at least one field besides the id."""

    model_config = ConfigDict(extra="forbid")

    inference_id: str
    success: StrictBool | None = None
    rating: Annotated[int, Field(ge=1, le=5, strict=True)] | None = None
    thumb: Literal["up", "down"] | None = None
    correction: Annotated[str, Field(min_length=1, max_length=65_536)] | None = None
    comment: Annotated[str, Field(max_length=4_096)] | None = None


class FeedbackObject(BaseModel):
    """What became of it. Only the first outcome of an inference counts."""

    id: str
    object: Literal["feedback"] = "feedback"
    inference_id: str
    outcome: Literal["success", "failure", "pending", "counted", "none"]
