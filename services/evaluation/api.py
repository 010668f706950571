"""HTTP adapter of evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Annotated

from fastapi import APIRouter, Query

from services.evaluation import repository
from services.evaluation.bootstrap import evaluation_settings
from services.evaluation.domain.agreement import Comparison, similarity
from services.evaluation.models import CaseRow, EvaluationRow
from services.evaluation.schemas import (
    CaseAgreement,
    CaseObject,
    CreateEvaluation,
    EvaluationObject,
    SideAnswer,
)
from services.evaluation.service import start
from shared.backpressure import Addition
from shared.http import Unit, authorised
from shared.idempotency import CreatingRoute
from shared.keys import Caller
from shared.pages import Page, page_of
from shared.policy import load_workload
from shared.process import process_blobs

router = APIRouter(prefix="/api/v1/evaluations", route_class=CreatingRoute)


@router.post("")
def create_evaluation(
    caller: Annotated[Caller, authorised("evaluations:write")],
    uow: Addition,
    body: CreateEvaluation,
) -> EvaluationObject:
    """Evaluate a model beside a baseline on the rows of a file; poll it until it has a verdict."""
    order = start.order_from_file(uow, **body.model_dump())
    limit = evaluation_settings().max_cases
    return _evaluation(start.start_evaluation(uow, process_blobs(), order, max_cases=limit))


@router.get("")
def list_evaluations(
    caller: Annotated[Caller, authorised("evaluations:read")],
    uow: Unit,
    workload: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Page[EvaluationObject]:
    workload_id = load_workload(uow.session, workload).workload_id if workload else None
    rows = repository.list_evaluations(uow, workload_id=workload_id, after=after, limit=limit)
    return page_of([_evaluation(row) for row in rows], limit)


@router.get("/{evaluation_id}")
def retrieve_evaluation(
    evaluation_id: str, caller: Annotated[Caller, authorised("evaluations:read")], uow: Unit
) -> EvaluationObject:
    """Metrics of both sides with their intervals, and the verdict rule by rule."""
    return _evaluation(repository.load_evaluation(uow, evaluation_id))


@router.get("/{evaluation_id}/cases")
def list_cases(
    evaluation_id: str,
    caller: Annotated[Caller, authorised("evaluations:read")],
    uow: Unit,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Page[CaseObject]:
    """The held-out rows by line, with both answers side by side."""
    evaluation = repository.load_evaluation(uow, evaluation_id)
    rows = repository.list_cases(uow, evaluation_id, after_line=after, limit=limit)
    lines = groupby(rows, lambda row: row.line)
    return page_of([_case(evaluation, list(sides)) for _, sides in lines], limit)


def _evaluation(row: EvaluationRow) -> EvaluationObject:
    return EvaluationObject.model_validate(
        {
            **row.model_dump(include=set(EvaluationObject.model_fields)),
            "created_at": int(row.created_at.timestamp()),
            "completed_at": int(row.completed_at.timestamp()) if row.completed_at else None,
        }
    )


def _case(evaluation: EvaluationRow, rows: Sequence[CaseRow]) -> CaseObject:
    sides = {row.side: row for row in rows}
    first = sides["candidate"]
    return CaseObject(
        id=str(first.line),
        line=first.line,
        expected=first.expected,
        input_tokens=first.input_tokens,
        target_tokens=first.target_tokens,
        candidate=_answer(first),
        baseline=_answer(sides["baseline"]) if "baseline" in sides else None,
        agreement=_agreement(evaluation, first),
    )


def _agreement(evaluation: EvaluationRow, row: CaseRow) -> CaseAgreement | None:
    if row.comparison is None:
        return None
    comparison = Comparison(**row.comparison)
    near = None
    if evaluation.metrics:
        near = similarity(comparison, evaluation.metrics["agreement"]["background"])
    return CaseAgreement(exact=comparison.exact, fields=comparison.fields, similarity=near)


def _answer(row: CaseRow) -> SideAnswer:
    return SideAnswer.model_validate(row, from_attributes=True)
