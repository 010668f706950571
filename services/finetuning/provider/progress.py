"""The use case that takes a job at a provider one step further, and what a failed step means."""

from __future__ import annotations

import random
from datetime import datetime

from services.finetuning import repository as jobs
from services.finetuning.domain.provider import (
    ENDING,
    Phase,
    seconds_to_next_look,
    seconds_to_next_try,
)
from services.finetuning.models import Job, ProviderRun
from services.finetuning.provider import repository
from services.finetuning.provider.planning import plan_step
from services.finetuning.provider.step import Desk, Outcome, Step
from services.finetuning.service.ending import fail_job
from services.finetuning.settings import FinetuningSettings
from shared.contracts.finetuning import ContinueJob
from shared.db import UnitOfWork
from shared.errors import (
    LeaseLost,
    Missing,
    PerpetuneError,
    Rejected,
    StorageFull,
    Unavailable,
)
from shared.logging import get_logger
from shared.task import Work

log = get_logger(__name__)

# A single failure is nobody's concern; these in a row are told in an event.
_TOLD_AFTER = 3


def continue_job(work: Work, desk: Desk, command: ContinueJob, *, is_last: bool) -> None:
    """
    Do one step and ask for the next; after the last nothing is left at the provider to be done.

    Args:
        work: The delivery.
        desk: What steps work with.
        command: Which step; one that is done already does nothing.
        is_last: Every attempt at this step so far ended its worker. It counts as failed, so that
            a job does not stand still behind a dead letter.
    """
    with work.open() as uow:
        due = repository.find_due(uow, command.job_id, command.position)
        step = plan_step(*due, _seconds_since(uow, due[0].failing_since)) if due else None
    if due is None or step is None:
        with work.finish():
            return
    seen, _ = due
    outcome = _perform(step, seen, desk, is_last=is_last)
    try:
        with work.finish() as uow:
            claimed = repository.claim_step(uow, command.job_id, command.position)
            if claimed is not None:
                _record(uow, *claimed, outcome, seen, desk.settings)
    except LeaseLost:
        if isinstance(outcome, Outcome) and outcome.made:
            _take_back(work, desk, seen, outcome.made)
        raise


def _perform(
    step: Step, run: ProviderRun, desk: Desk, *, is_last: bool
) -> Outcome | PerpetuneError:
    if is_last:
        return Unavailable("Each attempt ended its worker.", code="provider_step_crashed")
    try:
        return step.perform(desk.open(run.provider), desk)
    except PerpetuneError as error:
        log.info("provider_step_failed", job_id=run.job_id, phase=run.phase, code=error.code)
        return error


def _record(
    uow: UnitOfWork,
    run: ProviderRun,
    job: Job,
    outcome: Outcome | PerpetuneError,
    seen: ProviderRun,
    settings: FinetuningSettings,
) -> None:
    if isinstance(outcome, Outcome):
        _forget_failures(run)
        outcome.record(uow, run, job)
        seconds = max(_seconds_to_next_step(run, seen, settings), outcome.rest_seconds)
    elif run.phase != seen.phase:
        # The job ended here meanwhile, so what failed is not to be done any more.
        seconds = outcome.retry_after or 0.0
    else:
        seconds = _record_failure(uow, run, job, outcome, settings)
    if run.phase != Phase.DONE:
        uow.emit(ContinueJob(job_id=job.id, position=run.position), due_in_seconds=seconds)


def _seconds_to_next_step(
    run: ProviderRun, seen: ProviderRun, settings: FinetuningSettings
) -> float:
    """None where something else is to be done than what was planned when the run was *seen*."""
    if (run.phase, run.wish) != (seen.phase, seen.wish):
        return 0.0
    return seconds_to_next_look(
        run.quiet_looks,
        least=settings.provider_poll_seconds,
        most=settings.provider_longest_poll_seconds,
        chance=random.random(),
    )


def _record_failure(
    uow: UnitOfWork,
    run: ProviderRun,
    job: Job,
    error: PerpetuneError,
    settings: FinetuningSettings,
) -> float:
    """Seconds to the next try; what cannot pass, or lasted too long, ends what was being done."""
    run.failures += 1
    run.failing_since = run.failing_since or uow.now
    run.missing_since = (run.missing_since or uow.now) if isinstance(error, Missing) else None
    if _is_over(uow, run, error, settings):
        _give_up(uow, run, job, error)
        return 0.0
    if run.failures == _TOLD_AFTER:
        message = f"The provider is asked again and again: {error.message}"
        jobs.add_event(uow, job.id, message, level="warn", data={"code": error.code})
    return seconds_to_next_try(
        run.failures,
        error.retry_after,
        least=settings.provider_poll_seconds,
        most=settings.provider_longest_poll_seconds,
        chance=random.random(),
    )


def _is_over(
    uow: UnitOfWork, run: ProviderRun, error: PerpetuneError, settings: FinetuningSettings
) -> bool:
    """Whether there is no patience left with *error*, the last of those in a row."""
    match error:
        case Missing() if (
            _seconds_since(uow, run.missing_since) < settings.provider_missing_seconds
        ):
            pass
        case Unavailable() | StorageFull():
            pass
        case Rejected() if run.phase == Phase.COLLECTING:
            # A model is there; the operator may give the key the right to look at it.
            pass
        case _:
            return True
    return _seconds_since(uow, run.failing_since) >= settings.provider_patience_seconds


def _give_up(uow: UnitOfWork, run: ProviderRun, job: Job, error: PerpetuneError) -> None:
    """The job fails; where it has ended already, what is left at the provider stays there."""
    _forget_failures(run)
    if run.phase in {Phase.STOPPING, Phase.TIDYING}:
        run.phase = ENDING[Phase(run.phase)]
        message = f"Something of this job may be left at the provider: {error.message}"
        jobs.add_event(uow, job.id, message, level="warn", data={"code": error.code})
        return
    is_artefact = run.phase == Phase.COLLECTING and isinstance(error, Missing)
    code = "provider_artefact_missing" if is_artefact else error.code
    fail_job(uow, job.id, code=code, message=error.message, param=error.param)


def _take_back(work: Work, desk: Desk, run: ProviderRun, made: str) -> None:
    """
    Cancel a job that was made by a step which was not ours any more: this process slept through it,
    and another has written down its own, or the job has ended. Until then the next step finds it.
    """
    with work.open() as uow:
        recorded = repository.find_run(uow, run.job_id)
    if recorded is not None and _is_wanted(recorded, made):
        return
    try:
        desk.open(run.provider).ask(made, "cancel")
    except PerpetuneError as error:
        log.warning("provider_job_left", job_id=run.job_id, remote_job=made, code=error.code)


def _is_wanted(run: ProviderRun, made: str) -> bool:
    if run.remote_job is None:
        return run.phase in {Phase.CREATING, Phase.STOPPING}
    return run.remote_job == made


def _forget_failures(run: ProviderRun) -> None:
    run.failures, run.failing_since, run.missing_since = 0, None, None


def _seconds_since(uow: UnitOfWork, moment: datetime | None) -> float:
    return (uow.now - moment).total_seconds() if moment else 0.0
