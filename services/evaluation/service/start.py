"""Use cases at both ends of an evaluation's life: start one, refuse one, let one fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.evaluation import repository
from services.evaluation.examples import check_examples, read_examples, recorded_model
from services.evaluation.models import EvaluationRow
from services.evaluation.service.cases import open_cases, recorded_cases
from services.evaluation.service.subjects import load_subjects
from shared.blobs import BlobStore
from shared.contracts.evaluation import ContinueEvaluation, EvaluationCompleted
from shared.db import UnitOfWork
from shared.errors import Invalid, Missing, PerpetuneError
from shared.ids import Digest, new_id
from shared.policy import load_workload

_PURPOSES = ("fine-tune", "evals")


@dataclass(frozen=True, slots=True)
class Order:
    """
    What is to be evaluated.

    Attributes:
        workload: Id, name or alias; its policy has the gate's rules.
        digest: Blob of the held-out rows.
        file_id: Where the blob came from, if a file was named.
        recorded: The baseline's answers are in the rows, of a model that is not here.
    """

    model: str
    baseline: str | None
    workload: str | None
    digest: Digest
    file_id: str | None = None
    cycle_id: str | None = None
    recorded: bool = False


def order_from_file(
    uow: UnitOfWork,
    *,
    model: str,
    baseline: str | None,
    workload: str | None,
    file_id: str,
    recorded: bool,
) -> Order:
    """
    An order for the rows of an uploaded file.

    Raises:
        Missing: There is no such file.
        Invalid: The file was uploaded for something else.
    """
    file = repository.find_file(uow, file_id)
    if file is None:
        raise Missing(f"There is no file '{file_id}'.", code="file_not_found", param="file_id")
    if file.purpose not in _PURPOSES:
        raise Invalid(
            f"The file was uploaded for '{file.purpose}'; upload it for 'evals' or 'fine-tune'.",
            code="invalid_purpose",
            param="file_id",
        )
    return Order(model, baseline, workload, file.digest, file_id, recorded=recorded)


def start_evaluation(
    uow: UnitOfWork, blobs: BlobStore, order: Order, *, max_cases: int
) -> EvaluationRow:
    """
    Write down the evaluation with its cases and ask for its first step.

    Raises:
        Missing: There is no such model, workload or blob.
        Invalid: The models do not fit together, or the rows are no cases.
    """
    subjects = load_subjects(uow, order.model, order.baseline, recorded=order.recorded)
    workload = load_workload(uow.session, order.workload) if order.workload else None
    examples = read_examples(blobs.stream(uow.project, order.digest), recorded=order.recorded)
    layouts = check_examples(subjects.base, examples, max_cases=max_cases)
    row = _new_row(uow, order, state="queued")
    row.workload_id = workload.workload_id if workload else None
    row.baseline = subjects.baseline.name if subjects.baseline else None
    row.base = subjects.base.name
    row.cases = len(layouts)
    cases = open_cases(row, layouts, subjects.sides)
    if order.recorded:
        row.baseline = recorded_model([example for example, _ in layouts])
        cases += recorded_cases(row, layouts)
    repository.add_evaluation(uow, row, cases)
    uow.emit(ContinueEvaluation(evaluation_id=row.id, position=0))
    uow.audit("evaluation.started", row.id, facts=_facts(row))
    return row


def refuse_evaluation(uow: UnitOfWork, order: Order, error: PerpetuneError) -> EvaluationRow:
    """Write down an evaluation that could not begin, and tell who asked for it."""
    row = _new_row(uow, order, state="failed")
    row.workload_id = order.workload
    _set_failed(uow, row, error)
    repository.add_evaluation(uow, row)
    _tell_failure(uow, row)
    return row


def fail_evaluation(uow: UnitOfWork, evaluation_id: str, error: PerpetuneError) -> None:
    """End an evaluation that cannot go on; one that has ended stays as it is."""
    row = repository.lock_open(uow, evaluation_id)
    if row is not None:
        _set_failed(uow, row, error)
        _tell_failure(uow, row)


def _new_row(uow: UnitOfWork, order: Order, *, state: str) -> EvaluationRow:
    return EvaluationRow(
        id=new_id("eval"),
        project=uow.project,
        model=order.model,
        baseline=order.baseline,
        recorded=order.recorded,
        cycle_id=order.cycle_id,
        file_id=order.file_id,
        digest=order.digest,
        state=state,
    )


def _facts(row: EvaluationRow) -> dict[str, Any]:
    return {
        "model": row.model,
        "baseline": row.baseline,
        "recorded": row.recorded,
        "digest": row.digest,
        "cases": row.cases,
        "cycle_id": row.cycle_id,
    }


def _set_failed(uow: UnitOfWork, row: EvaluationRow, error: PerpetuneError) -> None:
    row.completed_at = uow.now
    row.state, row.verdict = "failed", "fail"
    row.error_code, row.reason = error.code, error.message


def _tell_failure(uow: UnitOfWork, row: EvaluationRow) -> None:
    uow.emit(
        EvaluationCompleted(
            evaluation_id=row.id,
            model=row.model,
            workload_id=row.workload_id,
            cycle_id=row.cycle_id,
            verdict="fail",
            reason=row.reason[:1000],
        )
    )
    uow.audit("evaluation.failed", row.id, reason=row.reason[:300], facts={"code": row.error_code})
