"""Commands and facts of evaluations. Emitted by evaluation; StartEvaluation by workloads."""

from __future__ import annotations

from typing import ClassVar, Literal

from shared.contracts.envelope import Message


class StartEvaluation(Message):
    """Command of a cycle: evaluate *model* beside *baseline* on a blob of held-out rows."""

    type: ClassVar[str] = "evaluation.start.v1"
    cycle_id: str
    workload_id: str
    model: str
    baseline: str
    digest: str

    @property
    def subject(self) -> str:
        return self.cycle_id


class ContinueEvaluation(Message):
    """Command to ourselves: answer and grade the next few cases. Lane: the evaluation."""

    type: ClassVar[str] = "evaluation.continue.v1"
    evaluation_id: str
    position: int

    @property
    def subject(self) -> str:
        return self.evaluation_id

    @property
    def lane(self) -> str:
        return self.evaluation_id


class EvaluationCompleted(Message):
    """All cases are graded and the gate has spoken."""

    type: ClassVar[str] = "evaluation.completed.v1"
    public: ClassVar[bool] = True
    evaluation_id: str
    model: str
    workload_id: str | None = None
    cycle_id: str | None = None
    verdict: Literal["pass", "fail"]
    reason: str

    @property
    def subject(self) -> str:
        return self.evaluation_id
