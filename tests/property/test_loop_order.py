"""A cycle hears what its commands lead to in any order, twice and late, and ends the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.workloads.domain import STEP_OF, Cycle, Outcome, Stage, decide, evolve
from shared.contracts.envelope import Message
from shared.contracts.evaluation import EvaluationCompleted
from shared.contracts.feedback import CorrectionRecorded, CorrectionsCurated
from shared.contracts.finetuning import JobCancelled, JobCreated, JobFailed, JobSucceeded
from shared.contracts.ingestion import DatasetRefused, DatasetSealed, Requester
from shared.contracts.releases import ReleasePromoted, ReleaseRolledBack, ReleaseStarted
from shared.contracts.workloads import CheckCycleDeadline

CYCLE, WORKLOAD, DATASET, MODEL = "cyc_1", "wl_1", "ds_1", "ft:base:a:b:1"
REQUESTER = Requester(kind="cycle", id=CYCLE)
CORRECTIONS = 3

BEGINNING = Cycle(
    cycle_id=CYCLE,
    workload_id=WORKLOAD,
    stage=Stage.CORRECTIONS,
    needed=CORRECTIONS,
    dataset_id=DATASET,
    parent="base",
)


def _correction(waiting: int) -> Message:
    return CorrectionRecorded(workload_id=WORKLOAD, feedback_id=f"fb_{waiting}", waiting=waiting)


def _curated() -> Message:
    return CorrectionsCurated(cycle_id=CYCLE, workload_id=WORKLOAD, digest="d", rows=CORRECTIONS)


def _sealed(dataset: str) -> Message:
    return DatasetSealed(
        dataset_id=dataset,
        requester=REQUESTER,
        training_digest="t",
        validation_digest="v",
        training_rows=2,
        validation_rows=1,
        training_tokens=1,
        trained_tokens=1,
    )


def _refused(dataset: str) -> Message:
    return DatasetRefused(dataset_id=dataset, requester=REQUESTER, code="c", message="m", param="p")


def _evaluated(model: str, verdict: str) -> Message:
    return EvaluationCompleted(evaluation_id="eval_1", model=model, verdict=verdict, reason="r")


RELEASE = {"release_id": "rel_1", "workload_id": WORKLOAD, "model": MODEL, "cycle_id": CYCLE}
JOB = {"job_id": "ftjob-1", "cycle_id": CYCLE}
CREATED = JobCreated(**JOB, model="base")
SUCCEEDED = JobSucceeded(**JOB, model_id=MODEL, dataset_id=DATASET)
STARTED = ReleaseStarted(**RELEASE, share=0.05)

# What others say while a cycle is in a stage. Messages of one tuple are a lane and keep their
# order; all others are independent of each other. Strangers are about something else.
USUAL: Mapping[Stage, list[tuple[Message, ...]]] = MappingProxyType(
    {
        Stage.CORRECTIONS: [tuple(_correction(n + 1) for n in range(CORRECTIONS + 2))],
        Stage.CURATION: [(_curated(),)],
        Stage.SEALING: [(_sealed(DATASET),), (_sealed("ds_2"),), (_refused("ds_2"),)],
        Stage.TRAINING: [(CREATED,), (SUCCEEDED,)],
        Stage.EVALUATION: [(_evaluated(MODEL, "pass"),), (_evaluated("another", "fail"),)],
        Stage.RELEASE: [(STARTED,), (ReleasePromoted(**RELEASE, reason="r"),)],
    }
)
TURNS: dict[str, dict[Stage, list[tuple[Message, ...]]]] = {
    "promoted": {},
    "refused": {Stage.SEALING: [(_refused(DATASET),), (_sealed("ds_2"),)]},
    "job failed": {Stage.TRAINING: [(CREATED,), (JobFailed(**JOB, code="c", message="m"),)]},
    "job cancelled": {Stage.TRAINING: [(CREATED,), (JobCancelled(**JOB),)]},
    "not good enough": {Stage.EVALUATION: [(_evaluated(MODEL, "fail"),)]},
    "rolled back": {Stage.RELEASE: [(STARTED,), (ReleaseRolledBack(**RELEASE, reason="r"),)]},
}


@dataclass
class World:
    """
    A cycle, and the deliveries on their way to it.

    Attributes:
        told: Which stages' consequences are on their way already.
        lanes: What is undelivered.
        delivered: What may come once more.
    """

    said: Mapping[Stage, list[tuple[Message, ...]]]
    cycle: Cycle = BEGINNING
    told: set[Stage] = field(default_factory=set)
    lanes: list[list[Message]] = field(default_factory=list)
    delivered: list[Message] = field(default_factory=list)

    def listen(self) -> None:
        """The stage's commands are out: what they lead to is on its way, like stale deadlines."""
        stage = self.cycle.stage
        if stage in self.told:
            return
        self.told.add(stage)
        self.lanes += [list(lane) for lane in self.said.get(stage, ())]
        steps = {STEP_OF[passed] for passed in self.told if passed in STEP_OF}
        for step in steps - {STEP_OF.get(stage)}:
            self.lanes.append([CheckCycleDeadline(cycle_id=CYCLE, step=step)])

    def hear(self, message: Message) -> None:
        event = decide(self.cycle, message)
        if event is not None:
            self.cycle = evolve(self.cycle, event)
        self.delivered.append(message)
        self.listen()

    def first_of(self, lane: int) -> Message:
        chosen = self.lanes[lane]
        message = chosen.pop(0)
        if not chosen:
            del self.lanes[lane]
        return message


def in_order(said: Mapping[Stage, list[tuple[Message, ...]]]) -> Cycle:
    world = World(said)
    world.listen()
    while world.lanes:
        world.hear(world.first_of(0))
    return world.cycle


def outcomes() -> Iterator[Outcome | None]:
    for turn in TURNS.values():
        yield in_order({**USUAL, **turn}).outcome


def test_the_turns_end_in_every_way_but_by_time():
    assert set(outcomes()) == set(Outcome) - {Outcome.EXPIRED}


@pytest.mark.parametrize("turn", TURNS)
@given(data=st.data())
def test_a_cycle_ends_the_same_in_any_order(turn, data):
    """Guarantee: the order of independent deliveries decides nothing, nor does a repetition."""
    said = {**USUAL, **TURNS[turn]}
    world = World(said)
    world.listen()
    while world.lanes:
        # Lanes keep their order, so a message of one is never repeated behind the next.
        again = [m for m in world.delivered if not isinstance(m, CorrectionRecorded)]
        if again and data.draw(st.booleans(), label="repeat"):
            world.hear(data.draw(st.sampled_from(again)))
        else:
            world.hear(world.first_of(data.draw(st.integers(0, len(world.lanes) - 1))))
    assert world.cycle == in_order(said)
