"""Which step comes next."""

from __future__ import annotations

from typing import cast

from services.finetuning.domain.provider import Phase
from services.finetuning.models import Job, ProviderRun
from services.finetuning.provider.following import Ask, Collect, Follow
from services.finetuning.provider.making import CreateRemoteJob, UploadRows
from services.finetuning.provider.ports import Wish
from services.finetuning.provider.step import Step
from services.finetuning.provider.stopping import FindToStop, Stop, Tidy


def plan_step(run: ProviderRun, job: Job, failing_seconds: float) -> Step:
    """What is to be done in the phase of a run, which has failed for *failing_seconds* so far."""
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
