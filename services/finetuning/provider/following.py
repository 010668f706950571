"""The steps of a job that its provider has: look, forward what its owner asked for, collect."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from services.finetuning import repository
from services.finetuning.domain.provider import is_granted, meaning_of, plain_csv
from services.finetuning.domain.states import State
from services.finetuning.models import Job, ProviderRun
from services.finetuning.provider import mirror
from services.finetuning.provider.mirror import Look
from services.finetuning.provider.ports import Provider, RemoteJob, Wish
from services.finetuning.provider.step import Desk, Outcome, Record
from services.finetuning.service.succeeding import ResultFile
from shared.db import UnitOfWork
from shared.errors import Missing, Rejected, Unavailable
from shared.ids import Project

# The metrics of a job that made its model are not waited for as long as the model.
_RESULT_SHARE = 0.5


@dataclass(frozen=True)
class Follow:
    """What happened since the last look."""

    run: ProviderRun

    def perform(self, provider: Provider, desk: Desk) -> Outcome:
        del desk
        return Outcome(partial(mirror.record_look, _look(provider, self.run)))


@dataclass(frozen=True)
class Ask:
    """
    Pause or resume, behind a look, so that a job is followed whatever becomes of the wish. A
    provider that cannot says so, and the job goes on.
    """

    run: ProviderRun
    wish: Wish

    def perform(self, provider: Provider, desk: Desk) -> Outcome:
        look = _look(provider, self.run)
        try:
            if not is_granted(self.wish, look.job.status):
                provider.ask(str(self.run.remote_job), self.wish)
        except (Rejected, Missing) as error:
            return self._outcome(look, partial(self._refused, error.message))
        except Unavailable as error:
            patience = desk.settings.provider_patience_seconds
            outcome = self._outcome(look, partial(self._unheard, error.message, patience))
            return replace(outcome, rest_seconds=error.retry_after or 0.0)
        return self._outcome(look, self._answered)

    def _outcome(self, look: Look, answer: Record) -> Outcome:
        return Outcome(partial(self._record, look, answer))

    def _record(
        self, look: Look, answer: Record, uow: UnitOfWork, run: ProviderRun, job: Job
    ) -> None:
        answer(uow, run, job)
        mirror.record_look(look, uow, run, job)

    def _unheard(
        self, why: str, patience: float, uow: UnitOfWork, run: ProviderRun, job: Job
    ) -> None:
        if run.wished_at and (uow.now - run.wished_at).total_seconds() >= patience:
            self._refused(why, uow, run, job)

    def _answered(self, _uow: UnitOfWork, run: ProviderRun, _job: Job) -> None:
        # One that was changed meanwhile is another wish.
        if run.wish == self.wish:
            run.wish = None
        run.quiet_looks = 0

    def _refused(self, why: str, uow: UnitOfWork, run: ProviderRun, job: Job) -> None:
        self._answered(uow, run, job)
        repository.add_event(uow, job.id, f"The job was not {self.wish}d: {why}", level="warn")


def _look(provider: Provider, run: ProviderRun) -> Look:
    job_id = str(run.remote_job)
    # The state first: what is told afterwards is then at least as new.
    remote = provider.load_job(job_id)
    known = {run.last_event} if run.last_event else set()
    is_full = run.events >= mirror.MAX_EVENTS
    return Look(
        job=remote,
        events=() if is_full else provider.list_events(job_id, known),
        checkpoints=provider.list_checkpoints(job_id),
    )


@dataclass(frozen=True)
class Collect:
    """The model and the metrics of a job that says it succeeded; nobody believes the word alone."""

    run: ProviderRun
    failing_seconds: float

    def perform(self, provider: Provider, desk: Desk) -> Outcome:
        remote = provider.load_job(str(self.run.remote_job))
        if meaning_of(remote.status) is not State.SUCCEEDED:
            raise Unavailable(
                f"The provider says {remote.status!r} of a job that had succeeded.",
                code="provider_inconsistent",
            )
        if remote.fine_tuned_model is None:
            raise Missing("The job that succeeded names no model.", code="provider_missing")
        provider.require_model(remote.fine_tuned_model)
        is_late = self.failing_seconds > _RESULT_SHARE * desk.settings.provider_missing_seconds
        result = self._result(provider, desk, remote, is_late=is_late)
        return Outcome(
            partial(
                mirror.record_success,
                remote=remote,
                model=remote.fine_tuned_model,
                result=result,
            )
        )

    def _result(
        self, provider: Provider, desk: Desk, remote: RemoteJob, *, is_late: bool
    ) -> ResultFile | None:
        if remote.result_file is None:
            return None
        try:
            content = plain_csv(provider.read_file(remote.result_file))
        except Rejected:
            return None
        except (Missing, Unavailable):
            if is_late:
                return None
            raise
        return ResultFile(desk.blobs.put(Project(self.run.project), content), len(content))
