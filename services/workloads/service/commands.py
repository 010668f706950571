"""What a cycle asks of other rooms when it enters a stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from services.workloads.domain import Cycle, Stage
from services.workloads.repository import neighbours, workloads
from shared.contracts.evaluation import StartEvaluation
from shared.contracts.feedback import CurateCorrections
from shared.contracts.finetuning import Hyperparameters, SubmitJob
from shared.contracts.ingestion import Requester, SealDataset, Source
from shared.contracts.releases import StartRelease
from shared.db import UnitOfWork
from shared.ids import new_id
from shared.policy import Policy

# A fifth: with some dozens of corrections, fewer held-out rows could not tell models apart.
VALIDATION_SHARE = 0.2


def send_command(uow: UnitOfWork, cycle: Cycle, workload: str, policy: Policy) -> Cycle:
    """
    Emit the command of the stage that *cycle* has just entered.

    Args:
        uow: The transaction of the change.
        cycle: In its new stage.
        workload: Name of the workload.
        policy: By which the cycle is carried out.

    Returns:
        The cycle with what was settled on the way (dataset id, parent).

    Raises:
        Missing: The workload has no live release to continue from.
    """
    return _SENDERS[cycle.stage](uow, cycle, workload, policy)


def _curate(uow: UnitOfWork, cycle: Cycle, _: str, __: Policy) -> Cycle:
    uow.emit(CurateCorrections(cycle_id=cycle.cycle_id, workload_id=cycle.workload_id))
    return cycle


def _seal(uow: UnitOfWork, cycle: Cycle, _: str, policy: Policy) -> Cycle:
    """New rows, and some of those that taught the live model, so that it does not forget."""
    live = neighbours.load_live(uow, cycle.workload_id)
    # Those that come now belong to the next cycle.
    workloads.set_corrections(uow, cycle.workload_id, 0)
    assert cycle.corrections_digest is not None  # learned on entering this stage
    sources = [Source(digest=cycle.corrections_digest)]
    if live.training_digest and policy.retraining.replay_rows:
        replay = Source(digest=live.training_digest, max_rows=policy.retraining.replay_rows)
        sources.append(replay)
    base = neighbours.find_base_of(uow, live.model) or live.model
    cycle = replace(cycle, dataset_id=new_id("ds"), parent=live.model)
    assert cycle.dataset_id is not None  # set above
    uow.emit(
        SealDataset(
            dataset_id=cycle.dataset_id,
            workload_id=cycle.workload_id,
            base=base,
            training=sources,
            validation_share=VALIDATION_SHARE,
            requester=Requester(kind="cycle", id=cycle.cycle_id),
        )
    )
    return cycle


def _submit(uow: UnitOfWork, cycle: Cycle, workload: str, policy: Policy) -> Cycle:
    assert cycle.dataset_id is not None  # set when sealing began
    assert cycle.parent is not None  # as above
    rules = policy.retraining
    uow.emit(
        SubmitJob(
            cycle_id=cycle.cycle_id,
            workload_id=cycle.workload_id,
            workload_name=workload,
            dataset_id=cycle.dataset_id,
            model=cycle.parent,
            hyperparameters=Hyperparameters(
                n_epochs=rules.n_epochs,
                batch_size=rules.batch_size,
                learning_rate_multiplier=rules.learning_rate_multiplier,
            ),
        )
    )
    return cycle


def _evaluate(uow: UnitOfWork, cycle: Cycle, _: str, __: Policy) -> Cycle:
    assert cycle.model is not None  # learned on entering this stage
    assert cycle.parent is not None  # set when sealing began
    assert cycle.validation_digest is not None  # a dataset without one closed the cycle
    uow.emit(
        StartEvaluation(
            cycle_id=cycle.cycle_id,
            workload_id=cycle.workload_id,
            model=cycle.model,
            baseline=cycle.parent,
            digest=cycle.validation_digest,
        )
    )
    return cycle


def _release(uow: UnitOfWork, cycle: Cycle, _: str, __: Policy) -> Cycle:
    assert cycle.model is not None  # learned before the evaluation
    assert cycle.evaluation_id is not None  # learned on entering this stage
    uow.emit(
        StartRelease(
            cycle_id=cycle.cycle_id,
            workload_id=cycle.workload_id,
            model=cycle.model,
            evaluation_id=cycle.evaluation_id,
        )
    )
    return cycle


_SENDERS: dict[Stage, Callable[[UnitOfWork, Cycle, str, Policy], Cycle]] = {
    Stage.CURATION: _curate,
    Stage.SEALING: _seal,
    Stage.TRAINING: _submit,
    Stage.EVALUATION: _evaluate,
    Stage.RELEASE: _release,
}
