"""The policy of a workload: margins, error bounds, shares, and what may happen unattended.

A versioned row of `workloads`; other rooms read it through the view `workloads.workloads_v1`
and store the version they decided by.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, Field, field_validator
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.errors import Missing

Share = Annotated[float, Gt(0), Le(0.5)]
ErrorBound = Annotated[float, Gt(0), Lt(0.5)]


class CanaryRules(BaseModel):
    """How a release is tried. Source of the defaults: simulations behind the canary tables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    margin: Annotated[float, Gt(0), Lt(1)] = 0.05
    alpha_promote: ErrorBound = 0.05
    alpha_rollback: ErrorBound = 0.05
    # Each step but the last is left by a proof of its own, of which there are two.
    shares: Annotated[tuple[Share, ...], Field(min_length=1, max_length=3)] = (0.05, 0.25, 0.5)
    # The others are counted and shown. Latency misleads where both arms share cores, and a better
    # model may answer at greater length.
    guardrails: tuple[Literal["error", "tokens", "latency_ms"], ...] = ("error",)
    guardrail_tolerance: Annotated[float, Ge(0), Le(0.2)] = 0.0
    cap_outcomes: Annotated[int, Ge(10)] = 10_000
    cap_days: Annotated[float, Gt(0), Le(90)] = 7.0

    @field_validator("shares")
    @classmethod
    def _shares_rise(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if any(before >= after for before, after in pairwise(shares)):
            raise ValueError("each share has to be larger than the one before")
        return shares


class DriftRules(BaseModel):
    """When a live release is said to have drifted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    baseline_outcomes: Annotated[int, Ge(30), Le(2_000)] = 500
    # Mean number of outcomes between false alarms is at least this.
    mean_run_length: Annotated[float, Ge(100)] = 10_000.0


class RetrainingRules(BaseModel):
    """What a drift alert may start unattended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    automatic: bool = True
    min_corrections: Annotated[int, Ge(10)] = 50
    # Rows of the previous dataset mixed in, so that what was learned is kept.
    replay_rows: Annotated[int, Ge(0)] = 200
    min_interval_seconds: Annotated[float, Ge(0)] = 3600.0
    n_epochs: int | Literal["auto"] = "auto"
    batch_size: int | Literal["auto"] = "auto"
    learning_rate_multiplier: float | Literal["auto"] = "auto"


class GateRules(BaseModel):
    """What an evaluation must show before a release may start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # The candidate's score may be below the baseline's by at most this (lower interval bound).
    max_regression: Annotated[float, Ge(0), Lt(1)] = 0.05
    min_exact_match: Annotated[float, Ge(0), Le(1)] = 0.0
    # Perplexity on general text, candidate over base: more means the model forgot too much.
    max_general_perplexity_ratio: Annotated[float, Gt(0)] = 1.5


class StepDeadlines(BaseModel):
    """Seconds each step of a cycle may take before the cycle is closed as expired."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: Annotated[float, Gt(0)] = 7 * 86_400.0
    job: Annotated[float, Gt(0)] = 86_400.0
    evaluation: Annotated[float, Gt(0)] = 21_600.0
    release: Annotated[float, Gt(0)] = 8 * 86_400.0


class Policy(BaseModel):
    """All rules of one workload; every field has a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    canary: CanaryRules = CanaryRules()
    drift: DriftRules = DriftRules()
    retraining: RetrainingRules = RetrainingRules()
    gate: GateRules = GateRules()
    deadlines: StepDeadlines = StepDeadlines()
    # Keeping prompts and answers is off unless asked for; corrections can be learned from only
    # while it is on.
    capture_content: bool = False
    fallback_model: str | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """What other rooms may know of a workload."""

    workload_id: str
    name: str
    base_model: str
    policy_version: int
    policy: Policy


def load_workload(session: Session, workload: str) -> Workload:
    """
    The workload with this id, name or alias, and its current policy.

    Raises:
        Missing: No workload of the project has this id, name or alias.
    """
    row = session.execute(
        text("""
            SELECT workload_id, name, base_model, policy_version, policy
            FROM workloads.workloads_v1
            WHERE workload_id = :wanted OR name = :wanted OR :wanted = ANY(aliases)
        """),
        {"wanted": workload},
    ).one_or_none()
    if row is None:
        raise Missing(f"There is no workload '{workload}'.", code="workload_not_found")
    return Workload(
        workload_id=row.workload_id,
        name=row.name,
        base_model=row.base_model,
        policy_version=row.policy_version,
        policy=Policy.model_validate(row.policy),
    )
