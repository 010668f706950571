"""Facts of batches. Emitted by inference when a batch has ended; outside subscribers hear them."""

from __future__ import annotations

from typing import ClassVar

from shared.contracts.envelope import Message


class _BatchEnded(Message):
    """A batch and how many of its requests were answered; what was not is in its error file."""

    public: ClassVar[bool] = True
    batch_id: str
    total: int
    completed: int
    failed: int

    @property
    def subject(self) -> str:
        return self.batch_id


class BatchCompleted(_BatchEnded):
    """Every request of a batch has its line, and its files can be fetched."""

    type: ClassVar[str] = "batch.completed.v1"


class BatchExpired(_BatchEnded):
    """The time of a batch was over before all its requests were answered."""

    type: ClassVar[str] = "batch.expired.v1"


class BatchCancelled(_BatchEnded):
    """A batch was cancelled; what had been answered by then is in its output file."""

    type: ClassVar[str] = "batch.cancelled.v1"


class BatchFailed(Message):
    """A batch ended without files; *code* and *message* are those of its first error."""

    type: ClassVar[str] = "batch.failed.v1"
    public: ClassVar[bool] = True
    batch_id: str
    code: str
    message: str

    @property
    def subject(self) -> str:
        return self.batch_id
