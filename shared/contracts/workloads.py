"""Commands and facts of workloads and cycles. Emitted by the room workloads."""

from __future__ import annotations

from typing import ClassVar, Literal

from shared.contracts.envelope import Message

CycleStep = Literal["dataset", "job", "evaluation", "release"]


class WorkloadCreated(Message):
    """A workload exists; its base model is put live. Lane: the workload."""

    type: ClassVar[str] = "workload.created.v1"
    public: ClassVar[bool] = True
    workload_id: str
    name: str
    base_model: str

    @property
    def subject(self) -> str:
        return self.workload_id


class CycleOpened(Message):
    """A turn of the loop began. `trigger` is `drift`, `request` or `schedule`."""

    type: ClassVar[str] = "cycle.opened.v1"
    public: ClassVar[bool] = True
    cycle_id: str
    workload_id: str
    trigger: str

    @property
    def subject(self) -> str:
        return self.cycle_id


class CycleClosed(Message):
    """A turn of the loop ended. `outcome` is `promoted`, `rolled_back`, `failed` or `expired`."""

    type: ClassVar[str] = "cycle.closed.v1"
    public: ClassVar[bool] = True
    cycle_id: str
    workload_id: str
    outcome: str
    reason: str

    @property
    def subject(self) -> str:
        return self.cycle_id


class CheckCycleDeadline(Message):
    """Command to ourselves, due at the deadline of a step; stale ones find the step passed."""

    type: ClassVar[str] = "cycle.check_deadline.v1"
    cycle_id: str
    step: CycleStep

    @property
    def subject(self) -> str:
        return self.cycle_id
