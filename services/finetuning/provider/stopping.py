"""The last steps: cancel what still trains for nobody, remove what was sent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from services.finetuning import repository
from services.finetuning.domain.provider import Phase, has_ended, meaning_of
from services.finetuning.domain.states import State
from services.finetuning.models import Job, ProviderRun
from services.finetuning.provider.ports import Provider, RemoteJob
from services.finetuning.provider.step import Desk, Outcome
from shared.db import UnitOfWork
from shared.errors import Missing, PerpetuneError, Rejected


@dataclass(frozen=True)
class Stop:
    """Cancel what trains for a job that has ended here, until it has ended there."""

    run: ProviderRun

    def perform(self, provider: Provider, desk: Desk) -> Outcome:
        del desk
        job_id = str(self.run.remote_job)
        try:
            remote = _cancelled(provider, job_id)
        except Missing:
            return Outcome(_stopped)
        return Outcome(partial(_record_stop, remote))


@dataclass(frozen=True)
class FindToStop:
    """The answer to a creation may have been lost: whatever it made is to be stopped."""

    run: ProviderRun

    def perform(self, provider: Provider, desk: Desk) -> Outcome:
        found = provider.find_jobs(self.run.job_id, str(self.run.training_file))
        ours = choose(found)
        if ours is not None:
            cancel_twins(provider, found, ours.id)
            return Outcome(partial(adopt, ours))
        if self.run.quiet_looks:
            return Outcome(_stopped)
        # A creation that we gave up may still take effect; it had the time of a step.
        return Outcome(_look_again, rest_seconds=2 * desk.settings.provider_step_seconds)


@dataclass(frozen=True)
class Tidy:
    """
    Cancel what came late of a creation, and remove the rows we sent, also those of an upload whose
    answer was lost. One that cannot be removed does not save the others.
    """

    run: ProviderRun

    def perform(self, provider: Provider, desk: Desk) -> Outcome:
        del desk
        failures: list[PerpetuneError] = []
        with _going_on(failures):
            self._cancel_twins(provider)
        sent = {self.run.training_file, self.run.validation_file} - {None}
        for part in ("training", "validation"):
            with _going_on(failures):
                sent.update(provider.find_files(filename_of(self.run.job_id, part)))
        for file_id in sorted(map(str, sent)):
            with _going_on(failures):
                provider.delete_file(file_id)
        if failures:
            raise failures[0]
        return Outcome(_tidied)

    def _cancel_twins(self, provider: Provider) -> None:
        if self.run.training_file is not None:
            found = provider.find_jobs(self.run.job_id, self.run.training_file)
            cancel_twins(provider, found, self.run.remote_job)


@contextlib.contextmanager
def _going_on(failures: list[PerpetuneError]) -> Iterator[None]:
    try:
        yield
    except PerpetuneError as error:
        failures.append(error)


def filename_of(job_id: str, part: str) -> str:
    """Files carry no metadata; their name says whose they are."""
    return f"{job_id}.{part}.jsonl"


def choose(jobs: Sequence[RemoteJob]) -> RemoteJob | None:
    """The job to go on with, of those made for one, newest first: one that lives, if any does."""
    fit = [job for job in jobs if meaning_of(job.status) is not State.CANCELLED]
    return min(fit, key=lambda job: has_ended(job.status), default=None)


def cancel_twins(provider: Provider, jobs: Sequence[RemoteJob], ours: str | None) -> None:
    """Of several that an unlucky past made for one job, leave *ours*."""
    for twin in jobs:
        if twin.id != ours and not has_ended(twin.status):
            with contextlib.suppress(Missing):
                _cancelled(provider, twin.id)


def adopt(remote: RemoteJob, uow: UnitOfWork, run: ProviderRun, job: Job) -> None:
    """Write down whose the provider's job is."""
    run.remote_job, run.remote_status = remote.id, remote.status
    if run.phase == Phase.CREATING:
        run.phase = Phase.FOLLOWING
        repository.add_event(
            uow, job.id, f"The provider '{run.provider}' took the job as {remote.id}"
        )
    uow.audit(
        "job.handed_over",
        job.id,
        facts={"provider": run.provider, "remote_job": remote.id},
    )


def _cancelled(provider: Provider, job_id: str) -> RemoteJob:
    try:
        return provider.ask(job_id, "cancel")
    except Rejected:
        # It has ended meanwhile, or cannot be cancelled; how it stands is what counts.
        return provider.load_job(job_id)


def _record_stop(remote: RemoteJob, uow: UnitOfWork, run: ProviderRun, job: Job) -> None:
    run.remote_status = remote.status
    if not has_ended(remote.status):
        run.quiet_looks += 1
        return
    if meaning_of(remote.status) is State.SUCCEEDED:
        repository.add_event(
            uow,
            job.id,
            f"The provider had finished before; its model {remote.fine_tuned_model} is there",
            level="warn",
        )
    _stopped(uow, run, job)


def _look_again(_uow: UnitOfWork, run: ProviderRun, _job: Job) -> None:
    run.quiet_looks += 1


def _stopped(_uow: UnitOfWork, run: ProviderRun, _job: Job) -> None:
    run.phase = Phase.TIDYING


def _tidied(_uow: UnitOfWork, run: ProviderRun, _job: Job) -> None:
    run.phase = Phase.DONE
