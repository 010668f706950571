"""Tables of ingestion as the code sees them; constraints are in migrations 0004 and 0017."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, FetchedValue
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel


def _instant(*, given_by_database: bool = False) -> Any:  # noqa: ANN401 - SQLModel's own type
    return Field(
        default=None,
        sa_column=Column(
            DateTime(timezone=True), server_default=FetchedValue() if given_by_database else None
        ),
    )


class FileRow(SQLModel, table=True):
    """A file as uploaded. Grows by one row an upload; deleted rows keep their id."""

    __tablename__ = "files"
    __table_args__ = {"schema": "ingestion"}

    id: str = Field(primary_key=True)
    seq: int | None = Field(
        default=None, sa_column=Column(BigInteger, server_default=FetchedValue())
    )
    project: str
    purpose: str
    filename: str
    bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    digest: str
    status: str
    status_details: str | None = None
    rows: int | None = None
    created_at: datetime = _instant(given_by_database=True)
    expires_at: datetime | None = _instant()
    deleted_at: datetime | None = _instant()


class UploadRow(SQLModel, table=True):
    """A file that arrives in parts. Grows by one row an upload."""

    __tablename__ = "uploads"
    __table_args__ = {"schema": "ingestion"}

    id: str = Field(primary_key=True)
    project: str
    filename: str
    purpose: str
    bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    mime_type: str
    expires_after_seconds: int | None = None
    status: str
    file_id: str | None = None
    created_at: datetime = _instant()
    expires_at: datetime = _instant()


class PartRow(SQLModel, table=True):
    """A part of an upload. Append-only."""

    __tablename__ = "upload_parts"
    __table_args__ = {"schema": "ingestion"}

    id: str = Field(primary_key=True)
    project: str
    upload_id: str
    digest: str
    bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    created_at: datetime = _instant()


class DatasetRow(SQLModel, table=True):
    """A dataset version. Append-only; grows by one row a job or cycle."""

    __tablename__ = "datasets"
    __table_args__ = {"schema": "ingestion"}

    id: str = Field(primary_key=True)
    seq: int | None = Field(
        default=None, sa_column=Column(BigInteger, server_default=FetchedValue())
    )
    project: str
    workload_id: str | None = None
    state: str
    base: str
    requester: str
    sources: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))
    manifest_digest: str | None = None
    training_digest: str | None = None
    validation_digest: str | None = None
    training_rows: int = 0
    validation_rows: int = 0
    training_tokens: int = 0
    trained_tokens: int = 0
    token_report: dict[str, int] | None = Field(default=None, sa_column=Column(JSONB))
    error_code: str | None = None
    error_message: str | None = None
    created_at: datetime = _instant(given_by_database=True)


class FindingRow(SQLModel, table=True):
    """A finding on a file or a dataset. At most 1,000 a subject."""

    __tablename__ = "findings"
    __table_args__ = {"schema": "ingestion"}

    seq: int | None = Field(
        default=None, sa_column=Column(BigInteger, primary_key=True, server_default=FetchedValue())
    )
    project: str
    subject: str
    rule: str
    severity: str
    line: int | None = None
    pointer: str
    message: str
    fix: str
