"""Tables of the room, all under row-level security on `project`. Rows are never deleted."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import BigInteger, Column, DateTime, Identity
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from services.finetuning.domain.methods import SUPERVISED
from services.finetuning.domain.provider import Phase
from services.finetuning.domain.states import State


def _instant() -> Any:  # noqa: ANN401 - SQLModel's own return type
    return Field(default=None, sa_type=DateTime(timezone=True))


class Job(SQLModel, table=True):
    """
    A fine-tuning job. Grows by one row a create; changed through `repository.move_job` and by its
    trainer under a lease.

    Attributes:
        model: A base or a fine-tuned model; of an alias what was live when the job was made.
        base: The base of *model*.
        method: `supervised`, or `dpo` for preferences.
        parent_peft_digest: Blob of the adapter to go on from; None starts a new one.
        training_file: Id of a file, or of the dataset when a cycle submitted the job.
        hyperparameters: `auto` until the dataset is sealed, numbers afterwards.
        provider: Who trains it; None trains it here.
        attempts: Starts of the trainer since the last new step.
        result_file: Id of the CSV with one row a step.
        error: `code`, `message`, `param` of a failed job.
        request_digest: Of the creating request, to recognise its repetition.
        correlation_id: Of the request or event everything about this job follows from.
    """

    __tablename__ = "jobs"
    __table_args__: ClassVar[dict[str, str]] = {"schema": "finetuning"}

    id: str = Field(primary_key=True)
    project: str
    state: str = State.VALIDATING_FILES
    model: str
    base: str
    method: str = SUPERVISED
    provider: str | None = None
    parent_peft_digest: str | None = None
    training_file: str
    validation_file: str | None = None
    suffix: str | None = None
    seed: int = Field(sa_type=BigInteger)
    hyperparameters: dict[str, Any] = Field(sa_type=JSONB)
    user_metadata: dict[str, str] | None = Field(
        default=None, sa_column=Column(JSONB(none_as_null=True))
    )
    cycle_id: str | None = None
    dataset_id: str
    training_digest: str | None = None
    validation_digest: str | None = None
    attempts: int = 0
    fine_tuned_model: str | None = None
    gguf_digest: str | None = None
    peft_digest: str | None = None
    result_file: str | None = None
    trained_tokens: int | None = Field(default=None, sa_type=BigInteger)
    error: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB(none_as_null=True)))
    estimated_finish: datetime | None = _instant()
    request_digest: str | None = None
    correlation_id: str
    created_at: datetime = _instant()
    finished_at: datetime | None = _instant()


class JobEvent(SQLModel, table=True):
    """
    What happened to a job, in order of `seq`; append-only. Grows by a row a step and a few a job.

    Attributes:
        step: Of a metrics event; unique within the job.
    """

    __tablename__ = "job_events"
    __table_args__: ClassVar[dict[str, str]] = {"schema": "finetuning"}

    seq: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(always=True)))
    id: str = Field(primary_key=True)
    project: str
    job_id: str
    level: str
    message: str
    data: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB(none_as_null=True)))
    step: int | None = None
    created_at: datetime = _instant()


class Checkpoint(SQLModel, table=True):
    """Weights of a job at a step, usable as a model; append-only. Grows by a few rows a job."""

    __tablename__ = "checkpoints"
    __table_args__: ClassVar[dict[str, str]] = {"schema": "finetuning"}

    id: str = Field(primary_key=True)
    project: str
    job_id: str
    step_number: int
    model_id: str
    metrics: dict[str, float] = Field(sa_type=JSONB)
    # None where a provider made it.
    gguf_digest: str | None = None
    peft_digest: str | None = None
    created_at: datetime = _instant()


class ProviderRun(SQLModel, table=True):
    """
    A job at its provider. Grows by one row a job that is trained elsewhere.

    Changed by the steps of the job, each of which claims `position`, and where its owner ends,
    pauses or resumes it.

    Attributes:
        position: Number of the next step; a step that is done is not recorded twice.
        training_file: Ids of our rows there, as is `validation_file`.
        remote_job: Id of the job there, once it is known.
        remote_status: The provider's word, as last seen.
        last_event: The newest event that is recorded, by the provider's id.
        events: How many of the provider's are recorded.
        wish: What its owner asked for at `wished_at` and the provider has not been told.
        quiet_looks: Looks since anything happened.
        failures: Calls that came to nothing, in a row, since `failing_since`; the last of them
            because something was not there, since `missing_since`.
    """

    __tablename__ = "provider_runs"
    __table_args__: ClassVar[dict[str, str]] = {"schema": "finetuning"}

    job_id: str = Field(primary_key=True)
    project: str
    provider: str
    phase: str = Phase.UPLOADING
    position: int = 0
    training_file: str | None = None
    validation_file: str | None = None
    remote_job: str | None = None
    remote_status: str | None = None
    last_event: str | None = None
    events: int = 0
    wish: str | None = None
    wished_at: datetime | None = _instant()
    quiet_looks: int = 0
    failures: int = 0
    failing_since: datetime | None = _instant()
    missing_since: datetime | None = _instant()
    created_at: datetime = _instant()
