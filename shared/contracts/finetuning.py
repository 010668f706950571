"""Commands and facts of fine-tuning jobs. Emitted by finetuning; SubmitJob by workloads."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from shared.contracts.envelope import Message


class Hyperparameters(BaseModel):
    """Numbers or `auto`, as in OpenAI's `method.supervised.hyperparameters`."""

    model_config = ConfigDict(frozen=True)

    n_epochs: int | Literal["auto"] = "auto"
    batch_size: int | Literal["auto"] = "auto"
    learning_rate_multiplier: float | Literal["auto"] = "auto"


class SubmitJob(Message):
    """Command of a cycle: train *model* on a sealed dataset."""

    type: ClassVar[str] = "job.submit.v1"
    cycle_id: str
    workload_id: str
    workload_name: str
    dataset_id: str
    model: str
    hyperparameters: Hyperparameters = Hyperparameters()

    @property
    def subject(self) -> str:
        return self.cycle_id


class JobCreated(Message):
    """A job was accepted."""

    type: ClassVar[str] = "job.created.v1"
    public: ClassVar[bool] = True
    job_id: str
    model: str
    cycle_id: str | None = None

    @property
    def subject(self) -> str:
        return self.job_id


class JobSucceeded(Message):
    """A job ended with a model."""

    type: ClassVar[str] = "job.succeeded.v1"
    public: ClassVar[bool] = True
    job_id: str
    model_id: str
    dataset_id: str
    cycle_id: str | None = None

    @property
    def subject(self) -> str:
        return self.job_id


class JobFailed(Message):
    """A job ended without a model; `code` as in OpenAI's job error."""

    type: ClassVar[str] = "job.failed.v1"
    public: ClassVar[bool] = True
    job_id: str
    code: str
    message: str
    cycle_id: str | None = None

    @property
    def subject(self) -> str:
        return self.job_id


class JobCancelled(Message):
    """A job was cancelled."""

    type: ClassVar[str] = "job.cancelled.v1"
    public: ClassVar[bool] = True
    job_id: str
    cycle_id: str | None = None

    @property
    def subject(self) -> str:
        return self.job_id


class ContinueJob(Message):
    """Command to ourselves: take a job at its provider a step further. Lane: the job."""

    type: ClassVar[str] = "job.continue.v1"
    job_id: str
    position: int

    @property
    def subject(self) -> str:
        return self.job_id

    @property
    def lane(self) -> str:
        return self.job_id


class ModelCreated(Message):
    """Weights exist and may be loaded: a fine-tuned model or one of its checkpoints."""

    type: ClassVar[str] = "model.created.v1"
    public: ClassVar[bool] = True
    model_id: str
    kind: Literal["fine_tuned", "checkpoint"]
    base: str
    parent: str
    job_id: str
    dataset_id: str
    gguf_digest: str
    # A tar of the PEFT folder (adapter_config.json, adapter_model.safetensors, manifest.json).
    peft_digest: str

    @property
    def subject(self) -> str:
        return self.model_id
