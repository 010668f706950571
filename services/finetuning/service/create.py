"""Make a job: from a request with files, or from a cycle with a sealed dataset."""

from __future__ import annotations

import random
from dataclasses import dataclass

from services.finetuning import repository
from services.finetuning.domain import names, request
from services.finetuning.domain.methods import DPO
from services.finetuning.domain.states import State
from services.finetuning.models import Job
from services.finetuning.provider.configuration import Providers
from services.finetuning.repository import Dataset, StoredFile
from services.finetuning.service.queueing import queue_job
from shared.contracts.finetuning import JobCreated, SubmitJob
from shared.contracts.ingestion import Requester, SealDataset, Source
from shared.db import UnitOfWork
from shared.errors import Invalid, Missing
from shared.ids import new_id
from shared.metadata import check_metadata
from shared.rendering.bases import find_base


@dataclass(frozen=True)
class CreateJob:
    """
    A request for a job.

    Attributes:
        method: `supervised` or `dpo`.
        hyperparameters: Numbers or `auto` by name.
        request_digest: Equal for requests that ask for the same thing.
        is_repetition: The client says that it sent this request before.
    """

    model: str
    training_file: str
    validation_file: str | None
    suffix: str | None
    seed: int | None
    method: str
    hyperparameters: dict[str, object]
    metadata: dict[str, str] | None
    request_digest: str
    is_repetition: bool


@dataclass(frozen=True)
class Start:
    """
    Where training starts.

    Attributes:
        model: A base, or a tuned model or checkpoint of this project.
        base: The base itself, or what the model stands on.
        peft_digest: Of the model's adapter; None for a base.
        provider: Who trains it; None trains it here.
    """

    model: str
    base: str
    peft_digest: str | None = None
    provider: str | None = None


def create_job(
    uow: UnitOfWork, command: CreateJob, *, providers: Providers, retry_window_seconds: float
) -> Job:
    """
    Accept a job and have its files made a dataset; a repetition gets the job it made before.

    Raises:
        Invalid: A field is out of bounds, a file is unknown or not meant for training, or the
            model cannot be trained here.
        Missing: There is no such model.
    """
    names.check_suffix(command.suffix)
    request.check_seed(command.seed)
    check_metadata(command.metadata)
    # A repetition may overtake the first.
    uow.take_turn("finetuning.create", command.request_digest)
    if command.is_repetition:
        twin = repository.find_twin(uow, command.request_digest, retry_window_seconds)
        if twin is not None:
            return twin
    model = _named(uow, command.model)
    start = _find_remote_start(uow, providers, model) or _find_start(uow, model)
    training = _training_source(uow, command.training_file, "training_file")
    validation = command.validation_file and _training_source(
        uow, command.validation_file, "validation_file"
    )
    job = _new_job(uow, command, start)
    repository.add_job(uow, job)
    _announce(uow, job)
    _report_files(uow, job)
    uow.emit(
        SealDataset(
            dataset_id=job.dataset_id,
            base=job.base,
            training=[training],
            validation=validation or None,
            format="preference" if job.method == DPO else "chat",
            counts_tokens=job.provider is None,
            requester=Requester(kind="job", id=job.id),
        )
    )
    return job


def submit_job(uow: UnitOfWork, command: SubmitJob) -> None:
    """
    Make and queue the job of a cycle; its dataset is sealed already.

    Raises:
        Missing: The model or the dataset is not known (yet).
        Invalid: A hyperparameter is out of bounds.
    """
    if repository.find_job_of_cycle(uow, command.cycle_id, command.dataset_id) is not None:
        return
    start = _find_start(uow, command.model)
    dataset = repository.find_dataset(uow, command.dataset_id)
    if dataset is None:
        raise Missing(
            f"There is no sealed dataset '{command.dataset_id}'.", code="dataset_not_found"
        )
    _check_base(command, start, dataset)
    hyperparameters = request.read_hyperparameters(
        command.hyperparameters.model_dump(), "hyperparameters"
    )
    job = Job(
        id=new_id("ftjob-"),
        project=uow.project,
        model=command.model,
        base=start.base,
        parent_peft_digest=start.peft_digest,
        # The API promises a training file; here the dataset is what was trained on.
        training_file=command.dataset_id,
        suffix=names.suffix_from(command.workload_name) or None,
        seed=_any_seed(),
        hyperparameters=hyperparameters.model_dump(),
        cycle_id=command.cycle_id,
        dataset_id=command.dataset_id,
        correlation_id=uow.context.correlation_id,
        created_at=uow.now,
    )
    repository.add_job(uow, job)
    _announce(uow, job)
    queue_job(uow, job, dataset)


def _find_remote_start(uow: UnitOfWork, providers: Providers, model: str) -> Start | None:
    """
    Where training at a provider starts; None for a model that names no provider.

    Raises:
        Missing: The provider may not train it, nor did a job of this project make it there.
    """
    found = providers.of_model(model)
    if found is None:
        return None
    spec, remote = found
    if remote in spec.models or repository.find_providers_model(uow, model):
        return Start(model=model, base=model, provider=spec.name)
    raise Missing(
        f"The provider '{spec.name}' may train {', '.join(spec.models)} here, and what jobs of "
        f"this project made there, but not '{remote}'.",
        code="model_not_found",
        param="model",
    )


def _find_start(uow: UnitOfWork, model: str) -> Start:
    if find_base(model) is not None:
        return Start(model=model, base=model)
    adapter = repository.find_adapter(uow, model)
    if adapter is None:
        raise Missing(
            f"The model '{model}' does not exist in this project.",
            code="model_not_found",
            param="model",
        )
    if find_base(adapter.base) is None:
        raise _not_tunable(
            f"The base '{adapter.base}' of '{model}' is not installed on this server."
        )
    return Start(model=model, base=adapter.base, peft_digest=adapter.peft_digest)


def _named(uow: UnitOfWork, name: str) -> str:
    """
    The model a name stands for: of an alias, which older code takes for a model, the live one.

    Raises:
        Invalid: It is the name of a workload, whose model changes by itself.
    """
    route = repository.find_route(uow, name)
    if route is None:
        return name
    if route.name == name:
        raise _not_tunable(
            f"'{name}' is a workload and no model; train the model that is live there, "
            f"'{route.live_model}', or a base."
        )
    return route.live_model


def _not_tunable(message: str) -> Invalid:
    return Invalid(message, code="model_not_tunable", param="model")


def _training_source(uow: UnitOfWork, file_id: str, param: str) -> Source:
    file: StoredFile | None = repository.find_file(uow, file_id)
    if file is None:
        raise Invalid(
            f"{param}: there is no file '{file_id}' in this project; upload it first.",
            code="file_not_found",
            param=param,
        )
    if file.purpose != "fine-tune":
        raise Invalid(
            f"{param}: file '{file_id}' has the purpose '{file.purpose}'; "
            "upload it with the purpose 'fine-tune'.",
            code="wrong_file_purpose",
            param=param,
        )
    return Source(digest=file.digest, file_id=file_id)


def _check_base(command: SubmitJob, start: Start, dataset: Dataset) -> None:
    if dataset.base != start.base:
        raise Invalid(
            f"Dataset '{command.dataset_id}' was checked against '{dataset.base}', "
            f"but '{command.model}' stands on '{start.base}'.",
            code="base_mismatch",
        )


def _new_job(uow: UnitOfWork, command: CreateJob, start: Start) -> Job:
    return Job(
        id=new_id("ftjob-"),
        project=uow.project,
        state=State.VALIDATING_FILES,
        model=start.model,
        base=start.base,
        parent_peft_digest=start.peft_digest,
        provider=start.provider,
        training_file=command.training_file,
        validation_file=command.validation_file,
        suffix=command.suffix,
        seed=_any_seed() if command.seed is None else command.seed,
        method=command.method,
        hyperparameters=command.hyperparameters,
        user_metadata=command.metadata or None,
        dataset_id=new_id("ds"),
        request_digest=command.request_digest,
        correlation_id=uow.context.correlation_id,
        created_at=uow.now,
    )


def _any_seed() -> int:
    return random.randrange(request.MAX_SEED + 1)


def _announce(uow: UnitOfWork, job: Job) -> None:
    repository.add_event(uow, job.id, f"Created fine-tuning job: {job.id}")
    uow.emit(JobCreated(job_id=job.id, model=job.model, cycle_id=job.cycle_id))
    uow.audit(
        "job.created",
        job.id,
        facts={"model": job.model, "dataset_id": job.dataset_id, "cycle_id": job.cycle_id},
    )


def _report_files(uow: UnitOfWork, job: Job) -> None:
    files = f"training file: {job.training_file}"
    if job.validation_file:
        files += f" and validation file: {job.validation_file}"
    repository.add_event(uow, job.id, f"Validating {files}")
    if job.validation_file == job.training_file:
        repository.add_event(
            uow,
            job.id,
            "The validation file is the training file; its metrics say nothing about new data.",
            level="warn",
        )
