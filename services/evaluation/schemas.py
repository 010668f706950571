"""HTTP models of evaluations."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from annotated_types import Len
from pydantic import BaseModel, ConfigDict, model_validator

Name = Annotated[str, Len(1, 256)]


class CreateEvaluation(BaseModel):
    """
    Without `baseline` a tuned model is compared with its base.

    With `recorded` it is compared with answers of an outside model that the rows carry as
    `recorded: {model, answer, error?, latency_ms?, input_tokens?, output_tokens?}`.
    """

    model_config = ConfigDict(extra="forbid")

    model: Name
    baseline: Name | None = None
    file_id: Name
    workload: Name | None = None
    recorded: bool = False

    @model_validator(mode="after")
    def _has_one_baseline(self) -> Self:
        if self.recorded and self.baseline is not None:
            raise ValueError("recorded answers are the baseline; leave out 'baseline'")
        return self


class Estimate(BaseModel):
    """A number with its 95 % interval."""

    estimate: float
    low: float
    high: float


class Latency(BaseModel):
    """Milliseconds for whole answers, under the concurrency of the evaluation itself."""

    mean_ms: float
    p50_ms: float
    p95_ms: float


class SideMetrics(BaseModel):
    """
    What one side's answers add up to. Of recorded answers there is no perplexity; latency and
    tokens are null unless they were recorded.
    """

    cases: int
    exact_match: Estimate
    json_cases: int
    field_accuracy: Estimate | None
    fields: dict[str, Estimate]
    target_perplexity: Estimate | None
    general_perplexity: Estimate | None
    latency: Latency | None
    input_tokens: int | None
    output_tokens: int | None
    cut_answers: int
    failed_answers: int


class Agreement(BaseModel):
    """
    How far the candidate says what was recorded, whether or not that was right.

    `semantic` is the share of answers whose `similarity` is at least 0.7. A similarity of 1 is the
    same answer, 0 is no nearer than answers to different rows, whose mean cosine is `background`.
    """

    cases: int
    exact: Estimate
    fields: Estimate | None
    semantic: Estimate
    similarity: Estimate
    background: float | None


class Metrics(BaseModel):
    """
    `exact_difference` is candidate minus baseline; `general_ratio` is candidate over base;
    `agreement` is null unless answers were recorded.
    """

    candidate: SideMetrics
    baseline: SideMetrics | None
    exact_difference: Estimate | None
    general_ratio: Estimate
    agreement: Agreement | None = None


class RuleObject(BaseModel):
    """One rule of the gate as it was applied."""

    rule: str
    passed: bool
    measured: float
    bound: float
    sentence: str


class EvaluationObject(BaseModel):
    """An evaluation; metrics and rules are there once it is completed."""

    id: str
    object: Literal["evaluation"] = "evaluation"
    model: str
    baseline: str | None
    recorded: bool
    workload_id: str | None
    cycle_id: str | None
    file_id: str | None
    digest: str
    state: Literal["queued", "running", "completed", "failed"]
    cases: int
    metrics: Metrics | None
    verdict: Literal["pass", "fail"] | None
    rules: list[RuleObject]
    policy_version: int | None
    reason: str
    error_code: str | None
    created_at: int
    completed_at: int | None


class SideAnswer(BaseModel):
    """What one side said to a case. `exact` is null until it has answered."""

    answer: str | None
    exact: bool | None
    fields: dict[str, bool] | None
    error: str | None
    is_cut: bool
    output_tokens: int | None
    latency_ms: float | None
    nll: float | None


class CaseAgreement(BaseModel):
    """How near the candidate's answer is to the recorded one; `similarity` when all are known."""

    exact: bool
    fields: dict[str, bool] | None
    similarity: float | None


class CaseObject(BaseModel):
    """One held-out row with both answers. `id` is its line in the file."""

    id: str
    object: Literal["evaluation.case"] = "evaluation.case"
    line: int
    expected: str
    input_tokens: int | None
    target_tokens: int | None
    candidate: SideAnswer
    baseline: SideAnswer | None
    agreement: CaseAgreement | None
