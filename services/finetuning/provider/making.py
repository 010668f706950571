"""
The first steps: rows, then the job. A step looks before it makes something: what an earlier attempt
made and nobody wrote down is found by our id, or by the name of the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from services.finetuning.domain.methods import DPO
from services.finetuning.domain.provider import Phase
from services.finetuning.models import Job, ProviderRun
from services.finetuning.provider.ports import Provider, Request
from services.finetuning.provider.step import Desk, Outcome
from services.finetuning.provider.stopping import adopt, cancel_twins, choose, filename_of
from shared.db import UnitOfWork
from shared.errors import Invalid
from shared.ids import Digest, Project


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
        name = filename_of(self.job.id, self.part)
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
        remote = choose(found) or provider.create_job(self._request())
        cancel_twins(provider, found, remote.id)
        return Outcome(partial(adopt, remote), made=remote.id)

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
