"""What the old fine-tune was made of: fetched from its service, or given as files."""

from __future__ import annotations

from dataclasses import dataclass

from openai.types.fine_tuning import FineTuningJob

from services.cli.errors import CommandFailed
from services.cli.imports.chats import Chat, load_bytes, read_chats, read_prompts
from services.cli.imports.old_service import OldService, Unfetchable
from services.cli.imports.order import Order


@dataclass(frozen=True, slots=True)
class Material:
    """
    Attributes:
        model: Id of the old model.
        job: That made it, if it is known.
        training: At least one row, all of one format.
        validation, prompts: May be empty.
        notes: What was expected and is not there, a sentence each.
    """

    model: str
    job: FineTuningJob | None
    training: tuple[Chat, ...]
    validation: tuple[Chat, ...]
    prompts: tuple[Chat, ...]
    notes: tuple[str, ...]


def gather(order: Order, old: OldService) -> Material:
    """
    Files of the old job where no local one was given; one that cannot be fetched leaves a note.

    Raises:
        CommandFailed: There is no such job or model, or nothing to train on.
    """
    notes: list[str] = []
    job = find_job(order, old, notes)
    model = order.model or (job.fine_tuned_model if job else None)
    if not model:
        raise CommandFailed(f"Job {order.job} has made no model; name another with --job.")
    files = _files(job, notes)
    training = _part("training_file", order, files[0], old, notes)
    validation = _part("validation_file", order, files[1], old, notes)
    if training is None:
        raise CommandFailed(
            f"There is nothing to train on. {' '.join(notes)} Give the rows with --training-file."
        )
    return Material(
        model=model,
        job=job,
        training=one_format(training),
        validation=tuple(validation or ()),
        prompts=given_prompts(order),
        notes=tuple(notes),
    )


def find_job(order: Order, old: OldService, notes: list[str]) -> FineTuningJob | None:
    """
    The job that is named, else the one that made the model; None where none is listed.

    Raises:
        CommandFailed: There is no such job, or jobs are not listed and no rows were given.
    """
    if order.job:
        return old.job(order.job)
    try:
        return next((job for job in old.jobs() if job.fine_tuned_model == order.model), None)
    except Unfetchable as error:
        if "training_file" not in order.files:
            raise CommandFailed(f"{error} Give the rows with --training-file.") from error
        notes.append(str(error))
        return None


def given_prompts(order: Order) -> tuple[Chat, ...]:
    """Rows of --prompts, or none."""
    path = order.files.get("prompts")
    return tuple(read_prompts(load_bytes(path), str(path))) if path else ()


def given_chats(order: Order, option: str) -> tuple[Chat, ...]:
    """Rows of a local file, or none."""
    path = order.files.get(option)
    return tuple(read_chats(load_bytes(path), str(path))) if path else ()


def one_format(training: tuple[Chat, ...]) -> tuple[Chat, ...]:
    """
    Raises:
        CommandFailed: Chats and preferences are mixed.
    """
    if len({chat.is_preference for chat in training}) > 1:
        raise CommandFailed("The training file mixes chats with preferences; train on one of them.")
    return training


def _files(job: FineTuningJob | None, notes: list[str]) -> tuple[str | None, str | None]:
    """Training and validation file of a job whose rows have answers."""
    if job is None:
        return None, None
    if job.method and job.method.type == "reinforcement":
        notes.append(f"Job {job.id} learned from rewards, so its rows have no answers.")
        return None, None
    return job.training_file, job.validation_file


def _part(
    option: str, order: Order, file_id: str | None, old: OldService, notes: list[str]
) -> tuple[Chat, ...] | None:
    if option in order.files:
        return given_chats(order, option)
    what = option.replace("_", " ")
    if not file_id:
        notes.append(f"No {what} is known for this model.")
        return None
    try:
        return tuple(read_chats(old.content(file_id), f"{what} {file_id}"))
    except Unfetchable as error:
        notes.append(f"The {what} is not to be had: {error}")
        return None
