"""One turn of the loop: what a cycle waits for, and what it does about what it hears.

`decide` answers a message with an event or with None, `evolve` applies the event. Everything
that is not in the table HEARD is out of date or about something else, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from shared.contracts.envelope import Message
from shared.contracts.evaluation import EvaluationCompleted
from shared.contracts.feedback import CorrectionRecorded, CorrectionsCurated
from shared.contracts.finetuning import JobCancelled, JobCreated, JobFailed, JobSucceeded
from shared.contracts.ingestion import DatasetRefused, DatasetSealed
from shared.contracts.releases import ReleasePromoted, ReleaseRolledBack, ReleaseStarted
from shared.contracts.workloads import CheckCycleDeadline, CycleStep


class Stage(StrEnum):
    """What a cycle waits for right now."""

    CORRECTIONS = "corrections"
    CURATION = "curation"
    SEALING = "sealing"
    TRAINING = "training"
    EVALUATION = "evaluation"
    RELEASE = "release"
    CLOSED = "closed"


class Outcome(StrEnum):
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"
    EXPIRED = "expired"


# Deadlines and people think in steps; the stages of one step share its deadline.
STEP_OF: Mapping[Stage, CycleStep] = MappingProxyType(
    {
        Stage.CORRECTIONS: "dataset",
        Stage.CURATION: "dataset",
        Stage.SEALING: "dataset",
        Stage.TRAINING: "job",
        Stage.EVALUATION: "evaluation",
        Stage.RELEASE: "release",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """
    Attributes:
        needed: Corrections that a dataset has to have before it is worth a job.
        corrections: Corrections waiting, as last heard.
        parent: Model that training continues from, and that the evaluation compares with.
        model: What the job made.
    """

    cycle_id: str
    workload_id: str
    stage: Stage
    needed: int
    corrections: int = 0
    corrections_digest: str | None = None
    parent: str | None = None
    dataset_id: str | None = None
    validation_digest: str | None = None
    job_id: str | None = None
    model: str | None = None
    evaluation_id: str | None = None
    release_id: str | None = None
    outcome: Outcome | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Advanced:
    """The cycle learned something; it waits for *stage* now, which may be the same as before."""

    stage: Stage
    learned: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Closed:
    """The cycle is over."""

    outcome: Outcome
    reason: str
    learned: dict[str, Any] = field(default_factory=dict)


Event = Advanced | Closed


def decide(cycle: Cycle, heard: Message) -> Event | None:
    """What *heard* means for the cycle; None when it is out of date or about something else."""
    if cycle.stage is Stage.CLOSED:
        return None
    if isinstance(heard, CheckCycleDeadline):
        return _expire(cycle, heard)
    answer = HEARD.get((cycle.stage, type(heard)))
    return answer(cycle, heard) if answer else None


def evolve(cycle: Cycle, event: Event) -> Cycle:
    """The cycle after *event*."""
    if isinstance(event, Closed):
        return replace(
            cycle,
            stage=Stage.CLOSED,
            outcome=event.outcome,
            reason=event.reason,
            **event.learned,
        )
    return replace(cycle, stage=event.stage, **event.learned)


def waits_for(cycle: Cycle) -> str | None:
    """The answer to "where is my retraining?", for people; None when it is over."""
    return {
        Stage.CORRECTIONS: f"{cycle.corrections} of {cycle.needed} corrections",
        Stage.CURATION: "the corrections to be written as training rows",
        Stage.SEALING: f"dataset {cycle.dataset_id} to be checked and sealed",
        Stage.TRAINING: f"job {cycle.job_id} to end" if cycle.job_id else "a job to be accepted",
        Stage.EVALUATION: f"the evaluation of {cycle.model} against {cycle.parent}",
        Stage.RELEASE: (
            f"the canary of release {cycle.release_id}"
            if cycle.release_id
            else f"{cycle.model} to be loaded for its canary"
        ),
        Stage.CLOSED: None,
    }[cycle.stage]


def _count(cycle: Cycle, heard: CorrectionRecorded) -> Event:
    enough = heard.waiting >= cycle.needed
    return Advanced(Stage.CURATION if enough else Stage.CORRECTIONS, {"corrections": heard.waiting})


def _curated(_: Cycle, heard: CorrectionsCurated) -> Event:
    return Advanced(Stage.SEALING, {"corrections": heard.rows, "corrections_digest": heard.digest})


def _sealed(cycle: Cycle, heard: DatasetSealed) -> Event | None:
    if heard.dataset_id != cycle.dataset_id:
        return None
    if heard.validation_digest is None:
        return Closed(
            Outcome.FAILED,
            "The dataset is too small to hold rows out, so the result could not be evaluated.",
        )
    return Advanced(Stage.TRAINING, {"validation_digest": heard.validation_digest})


def _refused(cycle: Cycle, heard: DatasetRefused) -> Event | None:
    if heard.dataset_id != cycle.dataset_id:
        return None
    return Closed(Outcome.FAILED, f"The dataset was refused ({heard.code}): {heard.message}")


def _job_created(_: Cycle, heard: JobCreated) -> Event:
    return Advanced(Stage.TRAINING, {"job_id": heard.job_id})


def _job_succeeded(_: Cycle, heard: JobSucceeded) -> Event:
    return Advanced(Stage.EVALUATION, {"job_id": heard.job_id, "model": heard.model_id})


def _job_failed(_: Cycle, heard: JobFailed) -> Event:
    reason = f"The job failed ({heard.code}): {heard.message}"
    return Closed(Outcome.FAILED, reason, {"job_id": heard.job_id})


def _job_cancelled(_: Cycle, heard: JobCancelled) -> Event:
    return Closed(Outcome.FAILED, "The job was cancelled.", {"job_id": heard.job_id})


def _evaluated(cycle: Cycle, heard: EvaluationCompleted) -> Event | None:
    if heard.model != cycle.model:
        return None
    learned = {"evaluation_id": heard.evaluation_id}
    if heard.verdict == "pass":
        return Advanced(Stage.RELEASE, learned)
    return Closed(Outcome.FAILED, f"The gate said no: {heard.reason}", learned)


def _release_started(_: Cycle, heard: ReleaseStarted) -> Event:
    return Advanced(Stage.RELEASE, {"release_id": heard.release_id})


def _promoted(_: Cycle, heard: ReleasePromoted) -> Event:
    return Closed(Outcome.PROMOTED, heard.reason, {"release_id": heard.release_id})


def _rolled_back(_: Cycle, heard: ReleaseRolledBack) -> Event:
    return Closed(Outcome.ROLLED_BACK, heard.reason, {"release_id": heard.release_id})


def _expire(cycle: Cycle, heard: CheckCycleDeadline) -> Event | None:
    if heard.step != STEP_OF[cycle.stage]:
        return None
    return Closed(
        Outcome.EXPIRED,
        f"The step {heard.step} passed its deadline; it waited for {waits_for(cycle)}.",
    )


HEARD: Mapping[tuple[Stage, type[Message]], Callable[[Cycle, Any], Event | None]] = (
    MappingProxyType(
        {
            (Stage.CORRECTIONS, CorrectionRecorded): _count,
            (Stage.CURATION, CorrectionsCurated): _curated,
            (Stage.SEALING, DatasetSealed): _sealed,
            (Stage.SEALING, DatasetRefused): _refused,
            (Stage.TRAINING, JobCreated): _job_created,
            (Stage.TRAINING, JobSucceeded): _job_succeeded,
            (Stage.TRAINING, JobFailed): _job_failed,
            (Stage.TRAINING, JobCancelled): _job_cancelled,
            (Stage.EVALUATION, EvaluationCompleted): _evaluated,
            (Stage.RELEASE, ReleaseStarted): _release_started,
            (Stage.RELEASE, ReleasePromoted): _promoted,
            (Stage.RELEASE, ReleaseRolledBack): _rolled_back,
        }
    )
)
