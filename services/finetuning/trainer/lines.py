"""What the child says: one JSON object a line on its standard output."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from shared.logging import get_logger

log = get_logger(__name__)

Metric = float | int | None


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Loaded(_Line):
    """Model and rows are in memory; training goes on after `resumed_from_step`."""

    event: Literal["loaded"]
    total_steps: int
    resumed_from_step: int
    seconds: float


class Referenced(_Line):
    """Of so many pairs it is known how likely their answers were before training."""

    event: Literal["referenced"]
    pairs: int
    total_pairs: int


class Stepped(_Line):
    """A step is done; losses in nats per trained token, None where not measured."""

    event: Literal["step"]
    step: int
    total_steps: int
    train_loss: Metric = None
    train_mean_token_accuracy: Metric = None
    valid_loss: Metric = None
    valid_mean_token_accuracy: Metric = None
    full_valid_loss: Metric = None
    full_valid_mean_token_accuracy: Metric = None

    @property
    def metrics(self) -> dict[str, Metric]:
        return self.model_dump(exclude={"event", "step", "total_steps"})


class Warned(_Line):
    """Something the owner of the files should know; training goes on."""

    event: Literal["warning"]
    code: str
    message: str


class Checkpointed(_Line):
    """The folder `path` holds the adapter as it is after `step`."""

    event: Literal["checkpoint"]
    step: int
    path: Path
    metrics: dict[str, Metric]


class Finished(_Line):
    """The folder `path` holds the final adapter; `trained_tokens` counts repeats."""

    event: Literal["finished"]
    step: int
    best_step: int
    stopped_early: bool
    path: Path
    trained_tokens: int
    result_csv: Path


class Failed(_Line):
    """There will be no adapter, and a repetition would end the same way."""

    event: Literal["failed"]
    code: str
    message: str


class Stopped(_Line):
    """The state after `step` is saved, as asked for."""

    event: Literal["stopped"]
    step: int


Line = Loaded | Referenced | Stepped | Warned | Checkpointed | Finished | Failed | Stopped
_READER: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="event")])


def read_line(text: str) -> Line | None:
    """The line, or None for one that is not of ours, such as a library's notice."""
    try:
        return _READER.validate_json(text)
    except ValidationError:
        log.warning("child_line_ignored", characters=len(text))
        return None
