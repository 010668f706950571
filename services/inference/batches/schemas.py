"""HTTP models in OpenAI's shape. Keys are always sent; what is not known yet is null."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Annotated, Literal, Self

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict

from services.inference.batches.domain.states import TERMINAL, State
from services.inference.batches.models import Batch
from services.inference.batches.service import WINDOW


class _Body(BaseModel):
    """A misspelt field is an error, not a default."""

    model_config = ConfigDict(extra="forbid")


class ExpiresAfter(_Body):
    """When the files that a batch makes are given up; from one hour to thirty days."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Ge(3_600), Le(2_592_000)]


class CreateBatchBody(_Body):
    """What OpenAI's `batches.create` sends."""

    input_file_id: str
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]
    completion_window: Literal["24h"]
    metadata: dict[str, str] | None = None
    output_expires_after: ExpiresAfter | None = None

    @property
    def digest(self) -> str:
        """Equal for requests that ask for the same thing."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


class ErrorObject(BaseModel):
    code: str
    line: int | None
    message: str
    param: str | None


class ErrorsObject(BaseModel):
    """What is wrong with the input file, by line."""

    object: Literal["list"] = "list"
    data: list[ErrorObject]


class CountsObject(BaseModel):
    completed: int
    failed: int
    total: int


class InputDetails(BaseModel):
    cached_tokens: int = 0


class OutputDetails(BaseModel):
    reasoning_tokens: int = 0


class UsageObject(BaseModel):
    """Tokens of all answers in the output file."""

    input_tokens: int
    input_tokens_details: InputDetails = InputDetails()
    output_tokens: int
    output_tokens_details: OutputDetails = OutputDetails()
    total_tokens: int


class BatchObject(BaseModel):
    """OpenAI's batch. The files are named once they can be fetched."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: ErrorsObject | None
    input_file_id: str
    completion_window: str = WINDOW
    status: State
    model: str | None
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: CountsObject
    usage: UsageObject | None
    metadata: dict[str, str] | None

    @classmethod
    def of(cls, batch: Batch) -> Self:
        has_ended = batch.state in TERMINAL

        def ended(state: State) -> int | None:
            return _seconds(batch.ended_at) if batch.state == state else None

        return cls(
            id=batch.id,
            endpoint=batch.endpoint,
            errors=ErrorsObject.model_validate({"data": batch.errors}) if batch.errors else None,
            input_file_id=batch.input_file,
            status=State(batch.state),
            model=batch.model,
            output_file_id=batch.output_file if has_ended else None,
            error_file_id=batch.error_file if has_ended else None,
            created_at=int(batch.created_at.timestamp()),
            in_progress_at=_seconds(batch.in_progress_at),
            expires_at=int(batch.expires_at.timestamp()),
            finalizing_at=_seconds(batch.finalizing_at),
            completed_at=ended(State.COMPLETED),
            failed_at=ended(State.FAILED),
            expired_at=ended(State.EXPIRED),
            cancelling_at=_seconds(batch.cancelling_at),
            cancelled_at=ended(State.CANCELLED),
            request_counts=CountsObject(
                completed=batch.completed, failed=batch.failed, total=batch.total
            ),
            usage=_usage(batch) if batch.written_at else None,
            metadata=batch.user_metadata,
        )


def _usage(batch: Batch) -> UsageObject:
    return UsageObject(
        input_tokens=batch.input_tokens,
        output_tokens=batch.output_tokens,
        total_tokens=batch.input_tokens + batch.output_tokens,
    )


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())
