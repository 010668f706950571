"""What a parity report rests on. Whatever the forms show stands here, and `--json` prints it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Fact(BaseModel):
    """Read from answers of the API, whose other fields do not matter here."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Estimate(_Fact):
    """A number with its 95 % interval."""

    estimate: float
    low: float
    high: float


class Latency(_Fact):
    mean_ms: float
    p50_ms: float
    p95_ms: float


class Side(_Fact):
    """One model's answers; what cannot be known of the old one is None."""

    exact_match: Estimate
    field_accuracy: Estimate | None
    target_perplexity: Estimate | None
    general_perplexity: Estimate | None
    latency: Latency | None
    input_tokens: int | None
    output_tokens: int | None
    cut_answers: int
    failed_answers: int


class Agreement(_Fact):
    """How far the new model says what the old one said."""

    cases: int
    exact: Estimate
    fields: Estimate | None
    semantic: Estimate
    similarity: Estimate


class Metrics(_Fact):
    """`exact_difference` is new minus old, paired by case."""

    candidate: Side
    baseline: Side
    exact_difference: Estimate
    agreement: Agreement | None


class Rule(_Fact):
    rule: str
    passed: bool
    sentence: str


class Evaluation(_Fact):
    """An evaluation with recorded answers, as the API shows it."""

    id: str
    cases: int
    verdict: Literal["pass", "fail"]
    rules: tuple[Rule, ...]
    metrics: Metrics

    @property
    def answered(self) -> int:
        """Cases that the old model answered."""
        return self.metrics.agreement.cases if self.metrics.agreement else 0


class Cost(_Fact):
    """
    Money, in the currency of the prices that were given; None without prices.

    Attributes:
        before: For a thousand answers of the old model: its counted tokens at its prices.
        after: For a thousand answers here, one at a time on a machine that does nothing else: the
            measured mean latency at the machine's price.
        training: From the order to the model, at the machine's price.
        goldens: What the answers of the old model cost for this import.
    """

    before: float | None
    after: float | None
    training: float | None
    goldens: float | None


class Difference(_Fact):
    """
    A case that the two models answer otherwise.

    Attributes:
        line: Of the uploaded file of cases, from 1.
        similarity: 1 is the same, 0 is no nearer than answers to different cases.
    """

    line: int
    question: str
    expected: str | None
    old: str
    new: str
    similarity: float | None


class Criterion(_Fact):
    """One condition of the verdict as it was applied."""

    name: str
    passed: bool
    sentence: str


class Decision(_Fact):
    """`advice` says what to do where the verdict is "not yet"."""

    passed: bool
    criteria: tuple[Criterion, ...]
    advice: tuple[str, ...]


class Facts(_Fact):
    """
    Attributes:
        old_model, old_base, service: Who answered before; base and address as far as known.
        model, base, job: Who answers here.
        has_references: Every case has an answer that is known as right beside the recorded one.
        origin: Where the cases come from.
        training_seconds: From the order to the model.
        trained_tokens: Over all epochs.
        differing: Number of cases with another answer; *differences* are the least similar.
        commands: What to do next, as commands of a shell.
    """

    name: str
    written_at: str
    old_model: str
    old_base: str | None
    service: str | None
    model: str
    base: str
    job: str
    training_rows: int
    training_seconds: float | None
    trained_tokens: int | None
    has_references: bool
    origin: str
    notes: tuple[str, ...]
    evaluation: Evaluation
    cost: Cost
    differing: int
    differences: tuple[Difference, ...]
    decision: Decision
    commands: tuple[str, ...]
