"""The use case that takes an evaluation one step further."""

from __future__ import annotations

from services.evaluation import repository
from services.evaluation.service.evaluator import Evaluator
from services.evaluation.service.steps import plan_step
from shared.contracts.evaluation import ContinueEvaluation
from shared.task import Work


def continue_evaluation(work: Work, evaluator: Evaluator, command: ContinueEvaluation) -> None:
    """
    Do one step and ask for the next; the last step ends the evaluation.

    Idempotent by the step's number: one that is done or whose evaluation has ended does nothing.
    """
    with work.open() as uow:
        row = repository.find_due(uow, command.evaluation_id, command.position)
        step = plan_step(uow, row, evaluator.settings, work.delivery.starts) if row else None
    record = step.perform(evaluator) if step else None
    with work.finish() as uow:
        row = repository.claim_step(uow, command.evaluation_id, command.position)
        if row is None or record is None:
            return
        record(uow, row)
        if row.verdict is None:
            uow.emit(ContinueEvaluation(evaluation_id=row.id, position=row.position))
