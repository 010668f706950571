"""HTTP models in OpenAI's shape. Keys are always sent; what is not known yet is null."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
)

from services.finetuning.domain.methods import DPO, USUAL_BETA
from services.finetuning.domain.request import MAX_BATCH_SIZE, MAX_BETA, MAX_EPOCHS
from services.finetuning.domain.states import State
from services.finetuning.models import Checkpoint, Job, JobEvent


def _auto_or(number: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"const": "auto"}, number, {"type": "null"}]})


# Checked by the domain, whose messages name the field and the bounds; a union would name its arms.
Epochs = Annotated[Any, _auto_or({"type": "integer", "minimum": 1, "maximum": MAX_EPOCHS})]
BatchSize = Annotated[Any, _auto_or({"type": "integer", "minimum": 1, "maximum": MAX_BATCH_SIZE})]
Multiplier = Annotated[Any, _auto_or({"type": "number", "exclusiveMinimum": 0})]
Beta = Annotated[Any, _auto_or({"type": "number", "exclusiveMinimum": 0, "maximum": MAX_BETA})]


class _Body(BaseModel):
    """A misspelt field is an error, not a default."""

    model_config = ConfigDict(extra="forbid")


class HyperparametersBody(_Body):
    n_epochs: Epochs = "auto"
    batch_size: BatchSize = "auto"
    learning_rate_multiplier: Multiplier = "auto"


class SupervisedBody(_Body):
    hyperparameters: HyperparametersBody | None = None


class DpoHyperparametersBody(HyperparametersBody):
    beta: Beta = "auto"


class DpoBody(_Body):
    hyperparameters: DpoHyperparametersBody | None = None


class MethodBody(BaseModel):
    """Of methods that are not offered only the type is read: it decides the refusal."""

    type: str
    supervised: SupervisedBody | None = None
    dpo: DpoBody | None = None


class CreateJobBody(_Body):
    """What OpenAI's `fine_tuning.jobs.create` sends."""

    model: str
    training_file: str
    validation_file: str | None = None
    method: MethodBody | None = None
    # The older place of the same numbers.
    hyperparameters: HyperparametersBody | None = None
    suffix: str | None = None
    seed: int | None = None
    metadata: dict[str, str] | None = None
    integrations: list[dict[str, Any]] | None = None

    @property
    def digest(self) -> str:
        """Equal for requests that ask for the same thing."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


class HyperparametersObject(BaseModel):
    n_epochs: int | Literal["auto"]
    batch_size: int | Literal["auto"]
    learning_rate_multiplier: float | Literal["auto"]


class SupervisedObject(BaseModel):
    hyperparameters: HyperparametersObject


class DpoHyperparametersObject(HyperparametersObject):
    # Workers of 0.1.0 that replace `auto` leave it out; it is the trainer's usual one then.
    beta: float | Literal["auto"] = USUAL_BETA


class DpoObject(BaseModel):
    hyperparameters: DpoHyperparametersObject


class MethodObject(BaseModel):
    """One of the two has numbers, the one of the type."""

    type: Literal["supervised", "dpo"]
    supervised: SupervisedObject | None = None
    dpo: DpoObject | None = None

    @classmethod
    def of(cls, job: Job) -> Self:
        if job.method == DPO:
            of_dpo = DpoHyperparametersObject.model_validate(job.hyperparameters)
            return cls(type="dpo", dpo=DpoObject(hyperparameters=of_dpo))
        numbers = HyperparametersObject.model_validate(job.hyperparameters)
        return cls(type="supervised", supervised=SupervisedObject(hyperparameters=numbers))

    @model_serializer(mode="wrap")
    def _without_the_other(self, serialised: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialised(self).items() if value is not None}


class JobError(BaseModel):
    code: str
    message: str
    param: str | None


class JobObject(BaseModel):
    """A `fine_tuning.job`."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    error: JobError | None
    estimated_finish: int | None
    fine_tuned_model: str | None
    finished_at: int | None
    hyperparameters: HyperparametersObject
    integrations: list[dict[str, Any]]
    metadata: dict[str, str] | None
    method: MethodObject
    model: str
    organization_id: str
    result_files: list[str]
    seed: int
    status: str
    trained_tokens: int | None
    training_file: str
    user_provided_suffix: str | None
    validation_file: str | None

    @classmethod
    def list_of(cls, jobs: Sequence[Job], unregistered: Collection[str]) -> list[Self]:
        """
        Jobs as callers see them: one succeeds when its model can be asked, not a moment before.

        Args:
            jobs: In the order of the answer.
            unregistered: Models of them that nobody can ask yet.
        """
        return [
            cls.of(job).model_copy(update=_UNFINISHED)
            if job.fine_tuned_model in unregistered
            else cls.of(job)
            for job in jobs
        ]

    @classmethod
    def of(cls, job: Job) -> Self:
        numbers = HyperparametersObject.model_validate(job.hyperparameters)
        return cls(
            id=job.id,
            created_at=_seconds(job.created_at),
            error=JobError.model_validate(job.error) if job.error else None,
            estimated_finish=job.estimated_finish and _seconds(job.estimated_finish),
            fine_tuned_model=job.fine_tuned_model,
            finished_at=job.finished_at and _seconds(job.finished_at),
            hyperparameters=numbers,
            integrations=[],
            metadata=job.user_metadata,
            method=MethodObject.of(job),
            model=job.model,
            organization_id=job.project,
            result_files=[job.result_file] if job.result_file else [],
            seed=job.seed,
            status=job.state,
            trained_tokens=job.trained_tokens,
            training_file=job.training_file,
            user_provided_suffix=job.suffix,
            validation_file=job.validation_file,
        )


class EventObject(BaseModel):
    """A `fine_tuning.job.event`."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: str
    message: str
    data: dict[str, Any] | None
    type: Literal["message", "metrics"]

    @classmethod
    def of(cls, event: JobEvent) -> Self:
        return cls(
            id=event.id,
            created_at=_seconds(event.created_at),
            level=event.level,
            message=event.message,
            data=event.data,
            type="message" if event.step is None else "metrics",
        )


class CheckpointObject(BaseModel):
    """A `fine_tuning.job.checkpoint`."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: dict[str, float]
    step_number: int

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Self:
        return cls(
            id=checkpoint.id,
            created_at=_seconds(checkpoint.created_at),
            fine_tuned_model_checkpoint=checkpoint.model_id,
            fine_tuning_job_id=checkpoint.job_id,
            metrics=checkpoint.metrics,
            step_number=checkpoint.step_number,
        )


_UNFINISHED: dict[str, object] = {
    "status": State.RUNNING.value,
    "fine_tuned_model": None,
    "finished_at": None,
    "result_files": [],
    "trained_tokens": None,
}


def _seconds(instant: datetime) -> int:
    return int(instant.timestamp())
