"""The steps of a job that its provider has: look, forward what its owner asked for, collect."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from services.finetuning import repository
from services.finetuning.domain.provider import meaning_of, plain_csv
from services.finetuning.domain.states import State
from services.finetuning.models import Job, ProviderRun
from services.finetuning.provider import mirror
from services.finetuning.provider.mirror import Look
from services.finetuning.provider.ports import Provider, RemoteJob, Wish
from services.finetuning.provider.step import Desk, Outcome
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
        job_id = str(self.run.remote_job)
        # The state first: what is told afterwards is then at least as new.
        remote = provider.load_job(job_id)
        known = {self.run.last_event} if self.run.last_event else set()
        is_full = self.run.events >= mirror.MAX_EVENTS
        look = Look(
            job=remote,
            events=() if is_full else provider.list_events(job_id, known),
            checkpoints=provider.list_checkpoints(job_id),
        )
        return Outcome(partial(mirror.record_look, look))


@dataclass(frozen=True)
class Ask:
    """Pause or resume; a provider that cannot says so, and the job goes on."""

    run: ProviderRun
    wish: Wish

    def perform(self, provider: Provider, desk: Desk) -> Outcome:
        del desk
        try:
            provider.ask(str(self.run.remote_job), self.wish)
        except (Rejected, Missing) as error:
            return Outcome(partial(self._refused, error.message))
        return Outcome(self._answered)

    def _answered(self, _uow: UnitOfWork, run: ProviderRun, _job: Job) -> None:
        # One that was changed meanwhile is another wish.
        if run.wish == self.wish:
            run.wish = None
        run.quiet_looks = 0

    def _refused(self, why: str, uow: UnitOfWork, run: ProviderRun, job: Job) -> None:
        self._answered(uow, run, job)
        repository.add_event(uow, job.id, f"The job was not {self.wish}d: {why}", level="warn")


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
        except Missing:
            if is_late:
                return None
            raise
        return ResultFile(desk.blobs.put(Project(self.run.project), content), len(content))
