"""Commands and facts of feedback. CurateCorrections is emitted by workloads."""

from __future__ import annotations

from typing import ClassVar

from shared.contracts.envelope import Message


class ResolveOutcome(Message):
    """Command to ourselves: compare a correction with the answer once its record has arrived."""

    type: ClassVar[str] = "outcome.resolve.v1"
    feedback_id: str

    @property
    def subject(self) -> str:
        return self.feedback_id


class CorrectionRecorded(Message):
    """A correction may be learned from. `waiting` counts those of the workload not yet curated."""

    type: ClassVar[str] = "correction.recorded.v1"
    workload_id: str
    feedback_id: str
    waiting: int

    @property
    def subject(self) -> str:
        return self.workload_id

    @property
    def lane(self) -> str:
        return self.workload_id


class CurateCorrections(Message):
    """Command of a cycle: write the workload's waiting corrections as training rows."""

    type: ClassVar[str] = "corrections.curate.v1"
    cycle_id: str
    workload_id: str

    @property
    def subject(self) -> str:
        return self.cycle_id


class CorrectionsCurated(Message):
    """The rows are a blob; the corrections in it are marked as used by the cycle."""

    type: ClassVar[str] = "corrections.curated.v1"
    cycle_id: str
    workload_id: str
    digest: str
    rows: int

    @property
    def subject(self) -> str:
        return self.cycle_id
