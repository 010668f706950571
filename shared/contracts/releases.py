"""Commands and facts of releases. Emitted by releases; StartRelease by workloads."""

from __future__ import annotations

from datetime import date
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from shared.contracts.envelope import Message


class StartRelease(Message):
    """Command of a cycle: put *model* before the workload's traffic, gated by an evaluation."""

    type: ClassVar[str] = "release.start.v1"
    cycle_id: str
    workload_id: str
    model: str
    evaluation_id: str

    @property
    def subject(self) -> str:
        return self.cycle_id


class LoadRelease(Message):
    """Command to ourselves: make the model answer, then begin the canary."""

    type: ClassVar[str] = "release.load.v1"
    release_id: str

    @property
    def subject(self) -> str:
        return self.release_id


class FoldCanary(Message):
    """Scheduled command to ourselves: fold new evidence and decide."""

    type: ClassVar[str] = "canary.fold.v1"
    release_id: str

    @property
    def subject(self) -> str:
        return self.release_id

    @property
    def coalesce_key(self) -> str:
        return self.release_id


class ReleaseStarted(Message):
    """A canary receives its share of the traffic from now on."""

    type: ClassVar[str] = "release.started.v1"
    public: ClassVar[bool] = True
    release_id: str
    workload_id: str
    model: str
    share: float
    cycle_id: str | None = None

    @property
    def subject(self) -> str:
        return self.release_id


class ReleasePromoted(Message):
    """A release is live. `previous_model` stays resident, so going back is one row."""

    type: ClassVar[str] = "release.promoted.v1"
    public: ClassVar[bool] = True
    release_id: str
    workload_id: str
    model: str
    previous_model: str | None = None
    cycle_id: str | None = None
    reason: str

    @property
    def subject(self) -> str:
        return self.release_id


class ReleaseRolledBack(Message):
    """A release takes no traffic any more; the live one before it stays live."""

    type: ClassVar[str] = "release.rolled_back.v1"
    public: ClassVar[bool] = True
    release_id: str
    workload_id: str
    model: str
    cycle_id: str | None = None
    reason: str

    @property
    def subject(self) -> str:
        return self.release_id


class AnnounceRetirements(Message):
    """Scheduled command to ourselves: announce which models of the project end soon."""

    type: ClassVar[str] = "retirements.announce.v1"

    @property
    def subject(self) -> str:
        return "retirements"

    @property
    def coalesce_key(self) -> str:
        return "retirements"


class DependentWorkload(BaseModel):
    """A workload that needs the model that ends."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    workload_id: str
    name: str


class RetirementAnnounced(Message):
    """A model ends on `shutdown_date`; what needs it should be retrained on another one.

    Told 90, 30 and 7 days ahead (`step_days`), each once for a model and a date. A workload needs
    the model when it, or one tuned from it, is live there, or when it answers to its name.
    `workloads` names the first twenty of `workload_count`.
    """

    type: ClassVar[str] = "model.retirement_announced.v1"
    public: ClassVar[bool] = True
    model: str
    shutdown_date: date
    days_left: int
    step_days: int
    workload_count: int
    workloads: tuple[DependentWorkload, ...]

    @property
    def subject(self) -> str:
        return self.model
