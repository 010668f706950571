"""Training here: one job for an import, found again by its metadata."""

from __future__ import annotations

from typing import Any

from openai.types.fine_tuning import FineTuningJob

from services.cli.errors import CommandFailed
from services.cli.following import checked_file, losses_of, model_of, watch_job
from services.cli.imports.prepared import Prepared
from services.cli.imports.steps.upload import upload
from services.cli.imports.work import Import, Trained

MARK = "perpetune_import"
# A large file on a small machine; a command that gives up goes on when it is repeated.
_TIMEOUT_SECONDS = 7 * 24 * 3600.0
_ENDED_WITHOUT_A_MODEL = frozenset({"failed", "cancelled"})


def check_rows(work: Import, prepared: Prepared) -> None:
    """
    Find rows that cannot be trained on before answers are paid for.

    Raises:
        CommandFailed: The data did not pass the checks.
    """
    if work.journal.find("checked") is None:
        _upload_training(work, prepared)
        work.journal.note("checked")


def train(work: Import, prepared: Prepared) -> Trained:
    """
    Train the base, or go on watching the job that does.

    Raises:
        CommandFailed: The data did not pass the checks, or the job failed; repeated, the command
            makes another job.
    """
    earlier = _jobs(work)
    alive = [job for job in earlier if job.status not in _ENDED_WITHOUT_A_MODEL]
    job = alive[-1] if alive else _create(work, prepared, attempt=len(earlier))
    work.screen.say(f"job {job.id} on {work.order.base}, {prepared.training_rows} rows")
    with work.screen.watch("training") as watch:
        job = watch_job(
            work.connection, watch, job.id, running=True, timeout_seconds=_TIMEOUT_SECONDS
        )
    work.screen.curve(losses_of(work.connection, job.id))
    model = model_of(job)
    work.screen.say(f"model {model}")
    seconds = job.finished_at - job.created_at if job.finished_at else None
    return Trained(job.id, model, seconds, job.trained_tokens)


def _jobs(work: Import) -> list[FineTuningJob]:
    return list(work.connection.openai.fine_tuning.jobs.list(metadata={MARK: work.token}))


def _create(work: Import, prepared: Prepared, *, attempt: int) -> FineTuningJob:
    training = _upload_training(work, prepared)
    epochs = {} if work.order.epochs is None else {"n_epochs": work.order.epochs}
    body: dict[str, Any] = {
        "model": work.order.base,
        "training_file": training,
        "method": {"type": prepared.method, prepared.method: {"hyperparameters": epochs}},
        "suffix": work.order.name,
        "seed": work.order.seed,
        "metadata": {MARK: work.token, "imported_from": prepared.model[:512]},
    }
    if prepared.validation:
        # Checked by the job: what is left beside the cases may be too short to train on.
        body["validation_file"] = upload(
            work, "validation", prepared.validation, purpose="fine-tune"
        )
    # A create that was under way when its process died is the same create.
    key = {"idempotency-key": f"{work.token}-{attempt}"}
    return work.connection.openai.fine_tuning.jobs.create(**body, extra_headers=key)


def _upload_training(work: Import, prepared: Prepared) -> str:
    """The id of the training file, which has passed the checks."""
    with work.screen.watch("upload") as watch:
        watch.update(f"{prepared.training_rows} rows, and what the checks say about them")
        file_id = upload(work, "training", prepared.training, purpose="fine-tune")
        try:
            checked_file(work.connection, file_id)
        except CommandFailed as error:
            raise CommandFailed(f"{work.folder.path}/training.jsonl: {error}") from error
    return file_id
