"""What a provider answers, read as a stranger's words: bounded, cleaned, and only what matters."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from annotated_types import Ge, Le, Len
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from services.finetuning.domain.provider import (
    EVENT_LEVELS,
    error_code,
    measured_data,
    numbers_of,
    one_line,
)
from services.finetuning.provider.ports import (
    RemoteCheckpoint,
    RemoteError,
    RemoteEvent,
    RemoteJob,
)

# They become parts of a path.
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,200}$")]
Model = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,256}$")]

_YEAR_2200 = 7_258_118_400
_MAX_TOKENS = 2**63 - 1


class _Answer(BaseModel):
    # A number in quotes is no number; what we do not know does not concern us.
    model_config = ConfigDict(strict=True, extra="ignore")


class File(_Answer):
    id: Id
    filename: str | None = None


class JobEntry(_Answer):
    """A `fine_tuning.job` in a list, which has other people's as well: what tells ours apart."""

    id: Id
    status: str | None = None
    training_file: Any = None
    metadata: Any = None

    def is_for(self, our_id: str, training_file: str, *, key: str) -> bool:
        """Whether our id stands under *key* of its metadata, or it has our file."""
        metadata = self.metadata if isinstance(self.metadata, dict) else {}
        return metadata.get(key) == our_id or self.training_file == training_file

    def told(self) -> RemoteJob:
        return RemoteJob(id=self.id, status=one_line(self.status or "", 64))


class Job(_Answer):
    """A `fine_tuning.job`."""

    id: Id
    status: Annotated[str, Len(1, 64)]
    fine_tuned_model: Model | None = None
    trained_tokens: Annotated[int, Ge(0), Le(_MAX_TOKENS)] | None = None
    estimated_finish: Annotated[int, Ge(0), Le(_YEAR_2200)] | None = None
    result_files: Annotated[list[Id], Len(0, 100)] | None = None
    method: dict[str, Any] | None = None
    hyperparameters: dict[str, Any] | None = None
    error: dict[str, Any] | None = None

    def told(self) -> RemoteJob:
        finish = self.estimated_finish
        return RemoteJob(
            id=self.id,
            status=one_line(self.status),
            fine_tuned_model=self.fine_tuned_model,
            trained_tokens=self.trained_tokens,
            estimated_finish=datetime.fromtimestamp(finish, UTC) if finish else None,
            result_file=self.result_files[0] if self.result_files else None,
            hyperparameters=numbers_of(self._hyperparameters()),
            error=_error(self.error) if self.error else None,
        )

    def _hyperparameters(self) -> Mapping[str, object]:
        method = self.method or {}
        of_method = method.get(str(method.get("type")))
        given = of_method.get("hyperparameters") if isinstance(of_method, dict) else None
        return given if isinstance(given, dict) else self.hyperparameters or {}


class Event(_Answer):
    """A `fine_tuning.job.event`."""

    id: Id
    level: str | None = None
    message: str | None = None
    type: str | None = None
    data: Any = None

    def told(self) -> RemoteEvent:
        return RemoteEvent(
            id=self.id,
            level=self.level if self.level in EVENT_LEVELS else "info",
            message=one_line(self.message or ""),
            data=measured_data(self.data) if self.type == "metrics" else None,
        )


class Checkpoint(_Answer):
    """A `fine_tuning.job.checkpoint`."""

    id: Id
    fine_tuned_model_checkpoint: Model
    step_number: Annotated[int, Ge(0), Le(2**31 - 1)]
    metrics: Any = None

    def told(self) -> RemoteCheckpoint:
        return RemoteCheckpoint(
            step=self.step_number,
            model=self.fine_tuned_model_checkpoint,
            metrics=measured_data(self.metrics) or {},
        )


_Item = TypeVar("_Item", bound=_Answer)


class Listed(_Answer):
    """A page; what is none of its items is passed over, so that it hides no other."""

    data: Annotated[list[Any], Len(0, 1000)]
    has_more: bool | None = False

    def items(self, kind: type[_Item]) -> list[_Item]:
        found = []
        for item in self.data:
            with contextlib.suppress(ValidationError):
                found.append(kind.model_validate(item))
        return found


def left_out(oldest: RemoteEvent) -> RemoteEvent:
    """In place of events older than *oldest* that were too many to be read."""
    return RemoteEvent(
        id=f"before-{oldest.id}",
        level="warn",
        message="The provider told more at once than is read; older events are left out.",
    )


def _error(error: Mapping[str, object]) -> RemoteError:
    message, param = error.get("message"), error.get("param")
    return RemoteError(
        code=error_code(error.get("code")) or "provider_failed",
        message=one_line(message) if isinstance(message, str) else "The provider did not say why.",
        param=one_line(param, 100) if isinstance(param, str) else None,
    )
