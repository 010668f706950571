"""HTTP shapes of workloads and cycles."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from services.workloads import domain
from services.workloads.repository.cycles import CycleRow
from services.workloads.repository.workloads import WorkloadRow
from shared.policy import Policy


def _no_id(alias: str) -> str:
    if alias.startswith("wl_"):
        raise ValueError("an alias cannot begin with wl_")
    return alias


# Names appear in paths and in model ids; aliases take any id that older code may be using.
Name = Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?$")]
# Ids of workloads are ours.
Alias = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9:._/@-]{0,199}$"),
    AfterValidator(_no_id),
]


class CreateWorkload(BaseModel):
    """Body of POST /api/v1/workloads."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    base_model: Annotated[str, Field(min_length=1, max_length=200)]
    aliases: Annotated[list[Alias], Field(max_length=20)] = []
    policy: Policy = Policy()


class ReplaceAliases(BaseModel):
    """Body of PUT /api/v1/workloads/{name}/aliases."""

    model_config = ConfigDict(extra="forbid")

    aliases: Annotated[list[Alias], Field(max_length=20)]


class RequestCycle(BaseModel):
    """Body of POST /api/v1/workloads/{name}/cycles."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(max_length=500)] = ""


class WorkloadView(BaseModel):
    """A workload with its current policy."""

    id: str
    object: Literal["workload"] = "workload"
    name: str
    aliases: list[str]
    base_model: str
    policy_version: int
    policy: Policy
    created_at: int

    @classmethod
    def of(cls, row: WorkloadRow) -> Self:
        return cls(
            id=row.workload_id,
            name=row.name,
            aliases=list(row.aliases),
            base_model=row.base_model,
            policy_version=row.policy_version,
            policy=row.policy,
            created_at=int(row.created_at.timestamp()),
        )


class CycleView(BaseModel):
    """Where a retraining is. `waits_for` is a sentence for people; None when it is over."""

    id: str
    object: Literal["cycle"] = "cycle"
    workload: str
    state: Literal["open", "closed"]
    step: str
    since: int
    deadline: int | None
    waits_for: str | None
    corrections: int
    corrections_needed: int
    trigger: str
    owner: str
    alert_id: str | None
    policy_version: int
    parent: str | None
    dataset_id: str | None
    job_id: str | None
    model: str | None
    evaluation_id: str | None
    release_id: str | None
    outcome: str | None
    reason: str | None
    created_at: int
    closed_at: int | None

    @classmethod
    def of(cls, row: CycleRow) -> Self:
        cycle = row.cycle
        is_open = row.closed_at is None
        return cls(
            id=cycle.cycle_id,
            workload=row.workload,
            state="open" if is_open else "closed",
            step=row.step,
            since=int(row.since.timestamp()),
            deadline=int(row.deadline.timestamp()) if is_open else None,
            waits_for=domain.waits_for(cycle),
            corrections=cycle.corrections,
            corrections_needed=cycle.needed,
            trigger=row.trigger,
            owner=row.owner,
            alert_id=row.alert_id,
            policy_version=row.policy_version,
            parent=cycle.parent,
            dataset_id=cycle.dataset_id,
            job_id=cycle.job_id,
            model=cycle.model,
            evaluation_id=cycle.evaluation_id,
            release_id=cycle.release_id,
            outcome=cycle.outcome,
            reason=cycle.reason,
            created_at=int(row.created_at.timestamp()),
            closed_at=int(row.closed_at.timestamp()) if row.closed_at else None,
        )
