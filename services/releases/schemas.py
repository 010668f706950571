"""HTTP shapes: OpenAI's for models, ours for releases."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Literal, Self

from annotated_types import Len
from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.releases.domain.retirement import end_of
from services.releases.repository.decisions import DecisionRow
from services.releases.repository.permissions import PermissionRow
from services.releases.repository.releases import ReleaseRow
from services.releases.service.canary import Recomputation, judge
from services.releases.service.models import Model
from services.releases.service.retirement import Retirement
from shared.statistics.codec import to_json

Reason = Annotated[str, Field(min_length=3, max_length=500)]


class ModelObject(BaseModel):
    """OpenAI's model object; `shutdown_date` is null for a model that nobody said will end."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    shutdown_date: date | None

    @classmethod
    def of(cls, model: Model, dates: Mapping[str, date]) -> Self:
        return cls(
            id=model.model_id,
            created=model.created,
            owned_by=model.owner,
            shutdown_date=end_of(model.needs, dates),
        )


class ModelList(BaseModel):
    """OpenAI's list of models, which has no pages."""

    object: Literal["list"] = "list"
    data: list[ModelObject]


class ModelDeleted(BaseModel):
    """OpenAI's answer to a deletion."""

    id: str
    object: Literal["model"] = "model"
    deleted: Literal[True] = True


class SetRetirement(BaseModel):
    """Body of PUT /api/v1/retirements/{model}: the day on which it is switched off, UTC."""

    model_config = ConfigDict(extra="forbid")

    shutdown_date: date


class RetirementView(BaseModel):
    """
    The end of a model. `set_date` is the day that was set for it; `shutdown_date` is earlier where
    its base ends before. `announced` lists the steps told so far, in days ahead.
    """

    object: Literal["retirement"] = "retirement"
    model: str
    shutdown_date: date
    set_date: date
    days_left: int
    announced: list[int]
    workloads: list[str]

    @classmethod
    def of(cls, retirement: Retirement) -> Self:
        ending = retirement.ending
        return cls(
            model=ending.model,
            shutdown_date=ending.shutdown_date,
            set_date=ending.set_date,
            days_left=ending.days_left,
            announced=sorted(ending.told, reverse=True),
            workloads=[each.name for each in retirement.dependents],
        )


class RetirementList(BaseModel):
    """All ends of models that were set, the first one first."""

    object: Literal["list"] = "list"
    data: list[RetirementView]


class RetirementRemoved(BaseModel):
    """A model does not end any more."""

    object: Literal["retirement"] = "retirement"
    model: str
    deleted: Literal[True] = True


class CreatePermissions(BaseModel):
    """What OpenAI's `checkpoints.permissions.create` sends."""

    model_config = ConfigDict(extra="forbid")

    project_ids: Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Len(1, 100)]


class PermissionObject(BaseModel):
    """OpenAI's permission of a checkpoint; `project_id` is who may use it."""

    id: str
    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    created_at: int
    project_id: str

    @classmethod
    def of(cls, row: PermissionRow) -> Self:
        return cls(id=row.id, created_at=int(row.created_at.timestamp()), project_id=row.grantee)


class PermissionDeleted(BaseModel):
    """OpenAI's answer to a withdrawal."""

    id: str
    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    deleted: Literal[True] = True


class Override(BaseModel):
    """Lets a model through the gate without a verdict; kept with the release for good."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason


class CreateRelease(BaseModel):
    """Body of POST /api/v1/releases. The gate asks for an evaluation or for an override."""

    model_config = ConfigDict(extra="forbid")

    workload: Annotated[str, Field(min_length=1, max_length=200)]
    model: Annotated[str, Field(min_length=1, max_length=300)]
    evaluation_id: str | None = None
    override: Override | None = None

    @model_validator(mode="after")
    def _has_one_way_through_the_gate(self) -> Self:
        if (self.evaluation_id is None) == (self.override is None):
            raise ValueError(
                "send either evaluation_id (of a passing evaluation) or override: {reason}"
            )
        return self


class RollBack(BaseModel):
    """Body of POST /api/v1/releases/{id}/rollback."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason


class ArmOutcomes(BaseModel):
    """Labelled requests of one arm, and their success rate in [0, 1]."""

    count: int
    rate: float | None


class ReleaseView(BaseModel):
    """A release and the evidence so far; `evidence` is None before a canary began."""

    id: str
    object: Literal["release"] = "release"
    workload_id: str
    workload: str
    model: str
    state: str
    share: float
    reason: str
    policy_version: int
    evaluation_id: str | None
    override_reason: str | None
    cycle_id: str | None
    owner: str
    control_release: str | None
    control_model: str | None
    outcomes: dict[str, ArmOutcomes]
    evidence: dict[str, Any] | None
    guarantee: str | None
    created_at: int
    started_at: int | None
    settled_at: int | None

    @classmethod
    def of(cls, row: ReleaseRow, names: dict[str, str], now: datetime) -> Self:
        decision = judge(row, now)
        outcomes = {}
        if decision is not None:
            proof = decision.evidence
            outcomes = {
                "canary": ArmOutcomes(count=proof.canary_outcomes, rate=proof.canary_rate),
                "control": ArmOutcomes(count=proof.control_outcomes, rate=proof.control_rate),
            }
        return cls(
            id=row.release_id,
            workload_id=row.workload_id,
            workload=names[row.workload_id],
            model=row.model,
            state=row.state,
            share=row.share,
            reason=row.reason,
            policy_version=row.policy_version,
            evaluation_id=row.evaluation_id,
            override_reason=row.override_reason,
            cycle_id=row.cycle_id,
            owner=row.owner,
            control_release=row.control_release,
            control_model=row.control_model,
            outcomes=outcomes,
            evidence=None if decision is None else to_json(decision.evidence),
            guarantee=None if decision is None else decision.guarantee,
            created_at=int(row.created_at.timestamp()),
            started_at=int(row.started_at.timestamp()) if row.started_at else None,
            settled_at=int(row.settled_at.timestamp()) if row.settled_at else None,
        )


class DecisionView(BaseModel):
    """One decision, with the numbers and the feed positions it rests on."""

    object: Literal["release.decision"] = "release.decision"
    verdict: str
    share: float
    reason: str
    policy_version: int
    evidence: dict[str, Any] | None
    outcomes_cursor: str | None
    records_cursor: str | None
    actor: str
    created_at: int

    @classmethod
    def of(cls, row: DecisionRow) -> Self:
        return cls(
            verdict=row.verdict,
            share=row.share,
            reason=row.reason,
            policy_version=row.policy_version,
            evidence=row.evidence,
            outcomes_cursor=row.outcomes_cursor,
            records_cursor=row.records_cursor,
            actor=row.actor,
            created_at=int(row.created_at.timestamp()),
        )


class DecisionList(BaseModel):
    """All decisions about a release, oldest first."""

    object: Literal["list"] = "list"
    data: list[DecisionView]


class RecomputationView(BaseModel):
    """The verdict from folding the feeds again; `is_equal` compares all bits of the state."""

    object: Literal["release.recomputation"] = "release.recomputation"
    release: str
    is_equal: bool
    verdict: str
    reason: str
    guarantee: str
    evidence: dict[str, Any]

    @classmethod
    def of(cls, release_id: str, found: Recomputation) -> Self:
        return cls(
            release=release_id,
            is_equal=found.is_equal,
            verdict=found.decision.verdict,
            reason=found.decision.reason,
            guarantee=found.decision.guarantee,
            evidence=to_json(found.decision.evidence),
        )
