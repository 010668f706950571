"""What the use cases need of a provider, and its answers as far as they matter here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

Wish = Literal["cancel", "pause", "resume"]


@dataclass(frozen=True, slots=True)
class RemoteError:
    """Why a provider's job failed, in its words."""

    code: str
    message: str
    param: str | None = None


@dataclass(frozen=True, slots=True)
class RemoteJob:
    """
    A job at a provider.

    Attributes:
        status: The provider's word, whether or not we know it.
        fine_tuned_model: As the provider calls it.
        hyperparameters: Those that are numbers by now.
        result_file: Of its metrics, as CSV.
    """

    id: str
    status: str
    fine_tuned_model: str | None = None
    trained_tokens: int | None = None
    estimated_finish: datetime | None = None
    result_file: str | None = None
    hyperparameters: Mapping[str, float] = field(default_factory=dict)
    error: RemoteError | None = None


@dataclass(frozen=True, slots=True)
class RemoteEvent:
    """
    What a provider says happened.

    Attributes:
        level: `info`, `warn` or `error`.
        data: Of a metrics event: numbers by OpenAI's names.
    """

    id: str
    level: str
    message: str
    data: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class RemoteCheckpoint:
    """Weights at a step; *model* as the provider calls them."""

    step: int
    model: str
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Request:
    """
    A job as it is asked for.

    Attributes:
        our_id: Of our job; travels along, so that a lost answer is found again.
        model: As the provider calls it.
        training_file: Id of a file at the provider, uploaded for this job alone.
        hyperparameters: Numbers; what is left out is `auto`.
    """

    our_id: str
    model: str
    training_file: str
    validation_file: str | None
    method: str
    hyperparameters: Mapping[str, float]
    suffix: str | None
    seed: int


class Provider(Protocol):
    """
    A service that trains. Every method is one short conversation, outside any transaction.

    All raise `Unavailable` when the answer is late, lost, unreadable, or says to come again;
    `Missing` when there is no such thing; `Rejected` when the provider said no for good.
    """

    def find_files(self, filename: str) -> list[str]:
        """Ids of files of this name among the newest, newest first."""
        ...

    def upload(self, path: Path, filename: str) -> str:
        """Send training rows; returns the id of the file."""
        ...

    def delete_file(self, file_id: str) -> None:
        """Remove a file; one that is not there is no error."""
        ...

    def find_jobs(self, our_id: str, training_file: str) -> list[RemoteJob]:
        """Jobs made for our job *our_id*, newest first: by metadata, or by their own file."""
        ...

    def create_job(self, request: Request) -> RemoteJob:
        """Ask for a job. Not to be repeated without looking for it first."""
        ...

    def load_job(self, job_id: str) -> RemoteJob:
        """A job as it is now."""
        ...

    def ask(self, job_id: str, wish: Wish) -> RemoteJob:
        """Cancel, pause or resume a job."""
        ...

    def list_events(self, job_id: str, known: Collection[str]) -> list[RemoteEvent]:
        """Events that are newer than those in *known*, oldest first."""
        ...

    def list_checkpoints(self, job_id: str) -> list[RemoteCheckpoint]:
        """Checkpoints, oldest first; empty also where the provider makes none."""
        ...

    def require_model(self, model: str) -> None:
        """
        Raises:
            Missing: The provider has no such model.
        """
        ...

    def read_file(self, file_id: str) -> bytes:
        """The bytes of a result file."""
        ...
