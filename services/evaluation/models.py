"""Tables of evaluation as the code sees them; constraints are in migrations 0006 and 0027."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import BigInteger, Column, DateTime, FetchedValue
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

Side = Literal["candidate", "baseline"]


class EvaluationRow(SQLModel, table=True):
    """One evaluation. Grows by one row a request or cycle."""

    __tablename__ = "evaluations"
    __table_args__ = {"schema": "evaluation"}

    id: str = Field(primary_key=True)
    seq: int | None = Field(
        default=None, sa_column=Column(BigInteger, server_default=FetchedValue())
    )
    project: str
    model: str
    baseline: str | None = None
    base: str | None = None
    recorded: bool = False
    workload_id: str | None = None
    cycle_id: str | None = None
    file_id: str | None = None
    digest: str
    state: str
    position: int = 0
    cases: int = 0
    general: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSONB, nullable=False))
    metrics: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB))
    policy_version: int | None = None
    verdict: str | None = None
    rules: list[dict[str, Any]] = Field(
        default_factory=list, sa_column=Column(JSONB, nullable=False)
    )
    reason: str = ""
    error_code: str | None = None
    created_at: datetime = Field(
        default=None,
        sa_column=Column(DateTime(timezone=True), server_default=FetchedValue()),
    )
    completed_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True)))


class CaseRow(SQLModel, table=True):
    """One held-out row as one side answers it. At most two for every row of the file."""

    __tablename__ = "cases"
    __table_args__ = {"schema": "evaluation"}

    evaluation_id: str = Field(primary_key=True)
    line: int = Field(primary_key=True)
    side: str = Field(primary_key=True)
    project: str
    expected: str
    answer: str | None = None
    exact: bool | None = None
    fields: dict[str, bool] | None = Field(default=None, sa_column=Column(JSONB(none_as_null=True)))
    error: str | None = None
    is_cut: bool = False
    input_tokens: int | None = None
    output_tokens: int | None = None
    latency_ms: float | None = None
    nll: float | None = None
    target_tokens: int | None = None
    comparison: dict[str, Any] | None = Field(
        default=None, sa_column=Column(JSONB(none_as_null=True))
    )
