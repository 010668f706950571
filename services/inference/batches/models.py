"""Tables of batches as the code sees them; constraints are in migration 0023."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import BigInteger, Column, DateTime
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from services.inference.batches.domain.states import State


def _instant() -> Any:  # noqa: ANN401 - SQLModel's own type
    return Field(default=None, sa_column=Column(DateTime(timezone=True)))


class Batch(SQLModel, table=True):
    """
    A file of requests. Grows by one row a batch.

    Attributes:
        input_digest: Of the file's bytes; deleting the file later does not matter.
        completed: Requests answered well so far, `failed` those answered with an error.
        unanswered: Of `failed`, those that were not asked to the end; known once files are written.
        errors: What is wrong with the input file.
        output_file: Its id is shown when the file can be fetched.
        attempts: Starts since the last progress.
        request_digest: Of the creating request, to recognise its repetition.
        written_at: Since then the files are stored, and ingestion has been told.
    """

    __tablename__ = "batches"
    __table_args__: ClassVar[dict[str, str]] = {"schema": "inference"}

    id: str = Field(primary_key=True)
    project: str
    state: str = State.VALIDATING
    endpoint: str
    input_file: str
    input_digest: str
    user_metadata: dict[str, str] | None = Field(
        default=None, sa_column=Column(JSONB(none_as_null=True))
    )
    expires_after_seconds: int | None = None
    model: str | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    unanswered: int = 0
    input_tokens: int = Field(default=0, sa_type=BigInteger)
    output_tokens: int = Field(default=0, sa_type=BigInteger)
    errors: list[dict[str, Any]] | None = Field(
        default=None, sa_column=Column(JSONB(none_as_null=True))
    )
    output_file: str | None = None
    error_file: str | None = None
    attempts: int = 0
    request_digest: str
    correlation_id: str
    created_at: datetime = _instant()
    expires_at: datetime = _instant()
    in_progress_at: datetime | None = _instant()
    finalizing_at: datetime | None = _instant()
    cancelling_at: datetime | None = _instant()
    written_at: datetime | None = _instant()
    ended_at: datetime | None = _instant()


class BatchResult(SQLModel, table=True):
    """The answer to a line of a batch that has not ended; then the files hold it."""

    __tablename__ = "batch_results"
    __table_args__: ClassVar[dict[str, str]] = {"schema": "inference"}

    batch_id: str = Field(primary_key=True)
    line: int = Field(primary_key=True)
    project: str
    status: int
    request_id: str
    body: str
