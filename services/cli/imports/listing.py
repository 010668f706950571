"""The fine-tunes of another service: what could be imported."""

from __future__ import annotations

from collections.abc import Iterable

from openai.types.fine_tuning import FineTuningJob

from services.cli.connection import Json
from services.cli.errors import CommandFailed
from services.cli.imports.old_service import OldService, Unfetchable
from services.cli.screen import Screen

COLUMNS = ("model", "base", "answers", "training_file", "validation_file", "job", "created_at")
_NO_JOB: Json = dict.fromkeys(("base", "job", "training_file", "validation_file", "created_at"))


def list_tuned(old: OldService, screen: Screen) -> list[Json]:
    """
    Models of all jobs that succeeded, newest first, then tuned models without a job.

    A file is `null` where the job has none, else its id with whether it can still be fetched.
    """
    with screen.watch("old service") as watch:
        watch.update("models and jobs")
        answering, jobs = old.models(), _jobs(old)
        rows = []
        for done, job in enumerate(jobs):
            watch.update(f"files of {job.id}", done=done, total=len(jobs))
            rows.append(_row(old, job, answering))
    known = {row["model"] for row in rows}
    return rows + [
        {**_NO_JOB, "model": model, "answers": True} for model in _tuned(answering - known)
    ]


def _jobs(old: OldService) -> list[FineTuningJob]:
    try:
        return old.jobs()
    except Unfetchable as error:
        raise CommandFailed(str(error)) from error


def _row(old: OldService, job: FineTuningJob, answering: set[str]) -> Json:
    return {
        "model": job.fine_tuned_model,
        "base": job.model,
        "answers": job.fine_tuned_model in answering,
        "training_file": _file(old, job.training_file),
        "validation_file": _file(old, job.validation_file),
        "job": job.id,
        "created_at": job.created_at,
    }


def _tuned(models: Iterable[str | None]) -> list[str]:
    return sorted(model for model in models if model and model.startswith("ft:"))


def _file(old: OldService, file_id: str | None) -> Json | None:
    if not file_id:
        return None
    try:
        found = old.file(file_id)
    except Unfetchable as error:
        return {"id": file_id, "is_there": False, "reason": str(error)}
    return {"id": file_id, "is_there": True, "name": found.name, "bytes": found.bytes}
