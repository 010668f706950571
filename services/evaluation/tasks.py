"""Celery adapter of evaluation."""

from __future__ import annotations

from services.evaluation.bootstrap import evaluation_settings, process_evaluator
from services.evaluation.service import progress, start
from services.evaluation.service.start import Order
from shared.contracts.evaluation import ContinueEvaluation, StartEvaluation
from shared.errors import Conflict, LeaseLost, Missing, PerpetuneError, StorageFull, Unavailable
from shared.ids import Digest
from shared.process import process_blobs, process_settings
from shared.task import Work, phased_task

# What may come right by itself. Every other error ends the evaluation.
_PASSING = (LeaseLost, Unavailable, Conflict, StorageFull)
# A model may be asked for a moment before its registration arrives.
_PASSING_AT_START = (*_PASSING, Missing)


@phased_task("evaluation.start_evaluation", StartEvaluation)
def start_evaluation(work: Work, command: StartEvaluation) -> None:
    """Idempotent by its delivery. What cannot begin is told to the cycle, not only to a log."""
    order = Order(
        model=command.model,
        baseline=command.baseline,
        workload=command.workload_id,
        digest=Digest(command.digest),
        cycle_id=command.cycle_id,
    )
    try:
        with work.finish() as uow:
            limit = evaluation_settings().max_cases
            start.start_evaluation(uow, process_blobs(), order, max_cases=limit)
    except PerpetuneError as error:
        if isinstance(error, _PASSING_AT_START) and not _is_last(work):
            raise
        with work.finish() as uow:
            start.refuse_evaluation(uow, order, error)


@phased_task("evaluation.continue_evaluation", ContinueEvaluation)
def continue_evaluation(work: Work, command: ContinueEvaluation) -> None:
    """Idempotent by the step's number; on loss the delivery is due again."""
    try:
        progress.continue_evaluation(work, process_evaluator(), command)
    except PerpetuneError as error:
        if isinstance(error, _PASSING) and not _is_last(work):
            raise
        with work.finish() as uow:
            start.fail_evaluation(uow, command.evaluation_id, error)


def _is_last(work: Work) -> bool:
    """Whether the delivery is given up should this attempt fail."""
    return work.delivery.starts + 1 >= process_settings().delivery_attempts
