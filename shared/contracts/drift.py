"""Commands and facts of drift monitors. Emitted by drift."""

from __future__ import annotations

from typing import ClassVar

from shared.contracts.envelope import Message


class FoldMonitor(Message):
    """Scheduled command to ourselves: fold new evidence into a monitor and decide."""

    type: ClassVar[str] = "monitor.fold.v1"
    monitor_id: str

    @property
    def subject(self) -> str:
        return self.monitor_id

    @property
    def coalesce_key(self) -> str:
        return self.monitor_id


class DriftDetected(Message):
    """A workload's live release got worse than its pinned baseline.

    The mean number of outcomes between false alarms is at least `threshold`.
    """

    type: ClassVar[str] = "drift.detected.v1"
    public: ClassVar[bool] = True
    alert_id: str
    monitor_id: str
    workload_id: str
    release_id: str
    metric: str
    statistic: float
    threshold: float
    baseline_outcomes: int
    baseline_rate: float
    outcomes_since_baseline: int
    outcomes_since_onset: int
    may_retrain: bool

    @property
    def subject(self) -> str:
        return self.alert_id
