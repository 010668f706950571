"""Tables of feedback as the code sees them; constraints are in migration 0009."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Column, DateTime, FetchedValue
from sqlmodel import Field, SQLModel


class EntryRow(SQLModel, table=True):
    """What was said about an answer. Grows by one row a feedback; kept with its corrections."""

    __tablename__ = "entries"
    __table_args__ = {"schema": "feedback"}

    id: str = Field(primary_key=True)
    seq: int | None = Field(
        default=None, sa_column=Column(BigInteger, server_default=FetchedValue())
    )
    project: str
    inference_id: str
    workload_id: str | None = None
    release_id: str | None = None
    arm: str
    success: bool | None = None
    rating: int | None = None
    thumb: str | None = None
    correction: str | None = None
    comment: str | None = None
    source: str
    curated_by: str | None = None
    created_at: datetime | None = Field(
        default=None, sa_column=Column(DateTime(timezone=True), server_default=FetchedValue())
    )
