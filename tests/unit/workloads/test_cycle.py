"""Every stage against every message: what moves a cycle, and what it ignores."""

from __future__ import annotations

import itertools

import pytest

from services.workloads.domain import (
    HEARD,
    STEP_OF,
    Advanced,
    Closed,
    Cycle,
    Outcome,
    Stage,
    decide,
    evolve,
    waits_for,
)
from shared.contracts.evaluation import EvaluationCompleted
from shared.contracts.feedback import CorrectionRecorded, CorrectionsCurated
from shared.contracts.finetuning import JobCancelled, JobCreated, JobFailed, JobSucceeded
from shared.contracts.ingestion import DatasetRefused, DatasetSealed, Requester
from shared.contracts.releases import ReleasePromoted, ReleaseRolledBack, ReleaseStarted
from shared.contracts.workloads import CheckCycleDeadline

CYCLE = {"cycle_id": "cyc_1", "workload_id": "wl_1"}
ASKER = Requester(kind="cycle", id="cyc_1")
RELEASE = {"release_id": "rel_1", "workload_id": "wl_1", "model": "ft:m", "cycle_id": "cyc_1"}
SEALED = DatasetSealed(
    dataset_id="ds_1",
    requester=ASKER,
    training_digest="t",
    validation_digest="v",
    training_rows=80,
    validation_rows=20,
    training_tokens=1,
    trained_tokens=1,
)
EVALUATED = EvaluationCompleted(
    evaluation_id="eval_1", model="ft:m", cycle_id="cyc_1", verdict="pass", reason="better"
)

# Stage, message, the stage after it (None: the outcome instead).
MOVES = [
    (
        "corrections",
        CorrectionRecorded(workload_id="wl_1", feedback_id="f", waiting=23),
        "corrections",
    ),
    (
        "corrections",
        CorrectionRecorded(workload_id="wl_1", feedback_id="f", waiting=24),
        "curation",
    ),
    ("curation", CorrectionsCurated(**CYCLE, digest="c", rows=24), "sealing"),
    ("sealing", SEALED, "training"),
    (
        "sealing",
        DatasetRefused(
            dataset_id="ds_1", requester=ASKER, code="too_few", message="3 rows", param="f"
        ),
        Outcome.FAILED,
    ),
    ("training", JobCreated(job_id="ftjob-1", model="m", cycle_id="cyc_1"), "training"),
    (
        "training",
        JobSucceeded(job_id="ftjob-1", model_id="ft:m", dataset_id="ds_1", cycle_id="cyc_1"),
        "evaluation",
    ),
    (
        "training",
        JobFailed(job_id="ftjob-1", code="nan", message="loss", cycle_id="cyc_1"),
        Outcome.FAILED,
    ),
    ("training", JobCancelled(job_id="ftjob-1", cycle_id="cyc_1"), Outcome.FAILED),
    ("evaluation", EVALUATED, "release"),
    ("release", ReleaseStarted(**RELEASE, share=0.25), "release"),
    ("release", ReleasePromoted(**RELEASE, reason="better"), Outcome.PROMOTED),
    ("release", ReleaseRolledBack(**RELEASE, reason="worse"), Outcome.ROLLED_BACK),
]


def _cycle(stage: str, **known) -> Cycle:
    facts = {"needed": 24, "dataset_id": "ds_1", "parent": "base", "model": "ft:m", **known}
    return Cycle(**CYCLE, stage=Stage(stage), **facts)


@pytest.mark.parametrize(("stage", "heard", "after"), MOVES)
def test_message_moves_the_cycle(stage, heard, after):
    moved = evolve(_cycle(stage), decide(_cycle(stage), heard))
    if isinstance(after, Outcome):
        assert (moved.stage, moved.outcome) == (Stage.CLOSED, after)
        assert moved.reason
    else:
        assert (moved.stage, moved.outcome) == (Stage(after), None)


def test_moves_above_are_the_whole_table():
    assert {(Stage(stage), type(heard)) for stage, heard, _ in MOVES} == set(HEARD)


@pytest.mark.parametrize(
    ("stage", "heard"),
    [
        (stage, heard)
        for stage, heard in itertools.product(Stage, {type(h): h for _, h, _ in MOVES}.values())
        if (stage, type(heard)) not in HEARD
    ],
)
def test_message_of_another_stage_is_out_of_date(stage, heard):
    assert decide(_cycle(stage), heard) is None


@pytest.mark.parametrize(("stage", "heard", "after"), MOVES)
def test_message_that_comes_twice_changes_nothing_more(stage, heard, after):
    once = evolve(_cycle(stage), decide(_cycle(stage), heard))
    again = decide(once, heard)
    assert again is None or evolve(once, again) == once


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("step", ["dataset", "job", "evaluation", "release"])
def test_deadline_closes_the_cycle_in_its_own_step_only(stage, step):
    event = decide(_cycle(stage), CheckCycleDeadline(cycle_id="cyc_1", step=step))
    if STEP_OF.get(stage) == step:
        assert isinstance(event, Closed)
        assert event.outcome is Outcome.EXPIRED
    else:
        assert event is None


def test_what_is_about_another_dataset_or_model_is_ignored():
    assert decide(_cycle("sealing", dataset_id="ds_2"), SEALED) is None
    assert decide(_cycle("sealing", dataset_id="ds_2"), MOVES[4][1]) is None
    assert decide(_cycle("evaluation", model="ft:other"), EVALUATED) is None


def test_dataset_without_held_out_rows_ends_the_cycle():
    event = decide(_cycle("sealing"), SEALED.model_copy(update={"validation_digest": None}))
    assert isinstance(event, Closed)
    assert event.outcome is Outcome.FAILED


def test_gate_that_says_no_ends_the_cycle_with_its_reason():
    failed = EVALUATED.model_copy(update={"verdict": "fail", "reason": "worse by 9 points"})
    event = decide(_cycle("evaluation"), failed)
    assert isinstance(event, Closed)
    assert "worse by 9 points" in event.reason
    assert event.learned == {"evaluation_id": "eval_1"}


def test_cycle_says_what_it_waits_for():
    assert waits_for(_cycle("corrections", corrections=12)) == "12 of 24 corrections"
    assert waits_for(_cycle("training", job_id="ftjob-1")) == "job ftjob-1 to end"
    assert waits_for(_cycle("closed")) is None
    assert all(waits_for(_cycle(stage)) for stage in Stage if stage is not Stage.CLOSED)


def test_job_is_known_even_if_its_success_arrives_first():
    event = decide(_cycle("training"), MOVES[6][1])
    assert event == Advanced(Stage.EVALUATION, {"job_id": "ftjob-1", "model": "ft:m"})
