"""
The steps of a job at its provider. Each is one conversation, outside any transaction, and a record
of what came of it, in the transaction that ends the step.

A step looks before it makes something: what an earlier attempt made and nobody wrote down is found
by our id, or by the name of the file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, cast

from services.finetuning import repository
from services.finetuning.domain.methods import DPO
from services.finetuning.domain.provider import Phase, has_ended, meaning_of, plain_csv
from services.finetuning.domain.states import State
from services.finetuning.models import Job, ProviderRun
from services.finetuning.provider import mirror
from services.finetuning.provider.mirror import Look
from services.finetuning.provider.ports import Provider, RemoteJob, Request, Wish
from services.finetuning.service.succeeding import ResultFile
from services.finetuning.settings import FinetuningSettings
from shared.blobs import BlobStore
from shared.db import UnitOfWork
from shared.errors import Invalid, Missing, Rejected, Unavailable
from shared.ids import Digest, Project

Record = Callable[[UnitOfWork, ProviderRun, Job], None]
"""Writes down what a step found."""

# The metrics of a job that made its model are not waited for as long as the model.
_RESULT_SHARE = 0.5


@dataclass(frozen=True)
class Desk:
    """
    What steps work with.

    Attributes:
        open: A conversation with the provider of this name, within the time of a step.
    """

    open: Callable[[str], Provider]
    blobs: BlobStore
    settings: FinetuningSettings


@dataclass(frozen=True)
class Outcome:
    """
    What came of a step.

    Attributes:
        made: Id of a job at the provider that is written down by *record* alone.
    """

    record: Record
    made: str | None = None


class Step(Protocol):
    def perform(self, provider: Provider, desk: Desk) -> Outcome: ...


def plan_step(run: ProviderRun, job: Job, failing_seconds: float) -> Step:
    """What comes next; *failing_seconds* is how long it came to nothing so far."""
    match Phase(run.phase):
        case Phase.UPLOADING:
            return UploadRows(job, "training" if run.training_file is None else "validation")
        case Phase.CREATING:
            return CreateRemoteJob(run, job)
        case Phase.FOLLOWING:
            return Ask(run, cast("Wish", run.wish)) if run.wish else Follow(run)
        case Phase.COLLECTING:
            return Collect(run, failing_seconds)
        case Phase.STOPPING:
            return Stop(run) if run.remote_job else FindToStop(run)
        case Phase.TIDYING | Phase.DONE:
            return Tidy(run)


@dataclass(frozen=True)
class UploadRows:
    """The rows that were sealed, as a file of this job alone."""

    job: Job
    part: str

    def perform(self, provider: Provider, desk: Desk) -> Outcome:
        digest = self.job.training_digest if self.part == "training" else self.job.validation_digest
        path = desk.blobs.path(Project(self.job.project), Digest(str(digest)))
        size, limit = path.stat().st_size, desk.settings.provider_max_file_bytes
        if size > limit:
            raise Invalid(
                f"The {self.part} rows have {size} bytes; at most {limit} are sent to a provider.",
                code="file_too_large_for_provider",
                param=f"{self.part}_file",
            )
        name = filename(self.job.id, self.part)
        found = provider.find_files(name)
        file_id = found[0] if found else provider.upload(path, name)
        return Outcome(partial(self._record, file_id))

    def _record(self, file_id: str, _uow: UnitOfWork, run: ProviderRun, job: Job) -> None:
        if self.part == "training":
            run.training_file = file_id
        else:
            run.validation_file = file_id
        is_complete = self.part == "validation" or job.validation_digest is None
        if is_complete and run.phase == Phase.UPLOADING:
            run.phase = Phase.CREATING


@dataclass(frozen=True)
class CreateRemoteJob:
    """The job itself. Of several that an unlucky past made, the others are cancelled."""

    run: ProviderRun
    job: Job

    def perform(self, provider: Provider, desk: Desk) -> Outcome:
        del desk
        found = provider.find_jobs(self.job.id, str(self.run.training_file))
        for twin in found[1:]:
            _cancel(provider, twin)
        remote = found[0] if found else provider.create_job(self._request())
        return Outcome(partial(_adopt, remote), made=remote.id)

    def _request(self) -> Request:
        numbers = self.job.hyperparameters.items()
        return Request(
            our_id=self.job.id,
            model=self.job.model.removeprefix(f"{self.run.provider}/"),
            training_file=str(self.run.training_file),
            validation_file=self.run.validation_file,
            method=self.job.method,
            hyperparameters={
                name: value
                for name, value in numbers
                if value != "auto" and (name != "beta" or self.job.method == DPO)
            },
            suffix=self.job.suffix,
            seed=self.job.seed,
        )


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
        look = Look(
            job=remote,
            events=provider.list_events(job_id, known),
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
        del desk
        found = provider.find_jobs(self.run.job_id, str(self.run.training_file))
        for twin in found[1:]:
            _cancel(provider, twin)
        return Outcome(partial(_adopt, found[0]) if found else _stopped)


@dataclass(frozen=True)
class Tidy:
    """Remove the rows we sent, also those of an upload whose answer was lost."""

    run: ProviderRun

    def perform(self, provider: Provider, desk: Desk) -> Outcome:
        del desk
        sent = {self.run.training_file, self.run.validation_file} - {None}
        for part in ("training", "validation"):
            sent.update(provider.find_files(filename(self.run.job_id, part)))
        for file_id in sorted(map(str, sent)):
            provider.delete_file(file_id)
        return Outcome(_tidied)


def filename(job_id: str, part: str) -> str:
    """Files carry no metadata; their name says whose they are."""
    return f"{job_id}.{part}.jsonl"


def _cancelled(provider: Provider, job_id: str) -> RemoteJob:
    try:
        return provider.ask(job_id, "cancel")
    except Rejected:
        # It has ended meanwhile, or cannot be cancelled; how it stands is what counts.
        return provider.load_job(job_id)


def _cancel(provider: Provider, remote: RemoteJob) -> None:
    if not has_ended(remote.status):
        with contextlib.suppress(Missing):
            _cancelled(provider, remote.id)


def _adopt(remote: RemoteJob, uow: UnitOfWork, run: ProviderRun, job: Job) -> None:
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


def _stopped(_uow: UnitOfWork, run: ProviderRun, _job: Job) -> None:
    run.phase = Phase.TIDYING


def _tidied(_uow: UnitOfWork, run: ProviderRun, _job: Job) -> None:
    run.phase = Phase.DONE
