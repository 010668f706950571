"""Cycles from an alert to a promotion, told by the messages of the other rooms."""

from __future__ import annotations

import pytest
from loop_rooms import BASE
from sqlalchemy.exc import ProgrammingError

from services.workloads.repository import cycles as cycle_rows
from services.workloads.service import cycles
from services.workloads.service.workloads import create_workload, replace_policy
from shared.contracts.drift import DriftDetected
from shared.contracts.evaluation import EvaluationCompleted
from shared.contracts.feedback import CorrectionRecorded, CorrectionsCurated
from shared.contracts.finetuning import JobCreated, JobFailed, JobSucceeded
from shared.contracts.ingestion import DatasetRefused, DatasetSealed, Requester
from shared.contracts.releases import FoldCanary, ReleaseRolledBack
from shared.contracts.workloads import CheckCycleDeadline
from shared.errors import Conflict, Missing, Unavailable
from shared.policy import Policy


def _alert(loop, workload, **changes):
    facts = {
        "alert_id": "alert_1",
        "monitor_id": "mon_1",
        "workload_id": workload,
        "release_id": loop.live(workload).live_release,
        "metric": "failure",
        "statistic": 1200.0,
        "threshold": 1000.0,
        "baseline_outcomes": 30,
        "baseline_rate": 0.0,
        "outcomes_since_baseline": 40,
        "outcomes_since_onset": 12,
        "may_retrain": True,
    }
    return DriftDetected(**{**facts, **changes})


def _correct(loop, workload, waiting):
    loop.say(CorrectionRecorded(workload_id=workload, feedback_id="fb_1", waiting=waiting))


def _open(loop, workload):
    with loop.units.open(loop.context) as uow:
        return cycle_rows.find_open(uow, workload)


def _cycles(loop):
    return loop.rows("SELECT * FROM workloads.cycles ORDER BY cycle_id")


def _until_sealing(loop, workload):
    loop.say(_alert(loop, workload))
    _correct(loop, workload, 24)
    asked = loop.take("feedback.curate_corrections")
    loop.say(
        CorrectionsCurated(
            cycle_id=asked["cycle_id"], workload_id=workload, digest="c" * 64, rows=24
        )
    )
    return asked["cycle_id"], loop.take("ingestion.seal_dataset")


def _sealed(cycle_id, seal, **changes):
    facts = {
        "dataset_id": seal["dataset_id"],
        "requester": Requester(kind="cycle", id=cycle_id),
        "training_digest": "t" * 64,
        "validation_digest": "v" * 64,
        "training_rows": 80,
        "validation_rows": 20,
        "training_tokens": 1,
        "trained_tokens": 1,
    }
    return DatasetSealed(**{**facts, **changes})


def _promote(loop, workload, model):
    """Let *model* win its canary."""
    release = loop.value(
        "SELECT release_id FROM releases.releases WHERE model = :model AND state = 'canary'",
        model=model,
    )
    control = loop.live(workload).live_release
    for _ in range(12):
        loop.add_outcome(workload, control, 0)
        loop.add_outcome(workload, release, 1, arm="canary")
    loop.say(FoldCanary(release_id=release))


def test_alert_leads_to_a_new_live_model(loop, workload):
    """The whole turn; other rooms are told by their messages."""
    cycle_id, seal = _until_sealing(loop, workload)
    assert seal["base"] == BASE
    assert [source["digest"] for source in seal["training"]] == ["c" * 64]
    assert 0 < seal["validation_share"] < 0.5

    loop.say(_sealed(cycle_id, seal))
    submit = loop.take("finetuning.submit_job")
    assert (submit["model"], submit["workload_name"]) == (BASE, "extractor")
    assert submit["dataset_id"] == seal["dataset_id"]

    loop.say(JobCreated(job_id="ftjob-7", model=BASE, cycle_id=cycle_id))
    assert _open(loop, workload).cycle.job_id == "ftjob-7"
    model = loop.add_model("retrained", dataset_id=seal["dataset_id"])
    loop.say(
        JobSucceeded(
            job_id="ftjob-7", model_id=model, dataset_id=seal["dataset_id"], cycle_id=cycle_id
        )
    )
    asked = loop.take("evaluation.start_evaluation")
    assert (asked["model"], asked["baseline"], asked["digest"]) == (model, BASE, "v" * 64)

    evaluation_id = loop.add_evaluation(model, workload_id=workload)
    loop.say(
        EvaluationCompleted(
            evaluation_id=evaluation_id,
            model=model,
            workload_id=workload,
            cycle_id=cycle_id,
            verdict="pass",
            reason="better",
        )
    )
    assert _open(loop, workload).cycle.release_id == loop.live(workload).canary_release
    _promote(loop, workload, model)
    assert loop.live(workload).live_model == model
    [cycle] = _cycles(loop)
    assert (cycle.stage, cycle.outcome, cycle.step) == ("closed", "promoted", "release")
    assert cycle.evaluation_id == evaluation_id
    assert cycle.alert_id == "alert_1"
    assert cycle.release_id == loop.live(workload).live_release
    actions = [action for action in loop.actions() if action.startswith("cycle.")]
    assert actions == ["cycle.opened", *["cycle.advanced"] * 3, "cycle.closed"]


def test_next_cycle_replays_what_taught_the_live_model(loop, workload):
    model = loop.add_model("first", dataset_id="ds_first")
    loop.add_dataset("ds_first", "d" * 64)
    loop.execute("UPDATE releases.releases SET model = :model WHERE state = 'live'", model=model)
    _, seal = _until_sealing(loop, workload)
    assert [(source["digest"], source["max_rows"]) for source in seal["training"]] == [
        ("c" * 64, None),
        ("d" * 64, 100),
    ]
    assert seal["base"] == BASE
    assert _open(loop, workload).cycle.parent == model


def test_cycle_waits_for_enough_corrections(loop, workload):
    _correct(loop, workload, 11)
    loop.say(_alert(loop, workload))
    assert _open(loop, workload).cycle.corrections == 11
    assert loop.sent("feedback.curate_corrections") == []
    _correct(loop, workload, 23)
    assert loop.sent("feedback.curate_corrections") == []
    _correct(loop, workload, 24)
    assert len(loop.sent("feedback.curate_corrections")) == 1
    _correct(loop, workload, 25)
    assert len(loop.sent("feedback.curate_corrections")) == 1


def test_corrections_that_waited_before_the_alert_count(loop, workload):
    _correct(loop, workload, 30)
    loop.say(_alert(loop, workload))
    assert len(loop.sent("feedback.curate_corrections")) == 1


def test_one_open_cycle_per_workload(loop, workload):
    loop.say(_alert(loop, workload))
    loop.say(_alert(loop, workload, alert_id="alert_2"))
    assert len(_cycles(loop)) == 1
    assert "retraining.declined" in loop.actions()
    with pytest.raises(Conflict, match="open cycle"), loop.units.open(loop.context) as uow:
        cycles.request_cycle(uow, "extractor", "impatience")


@pytest.mark.parametrize(
    ("policy", "changes"),
    [
        ({"retraining": {"automatic": False}}, {}),
        ({}, {"metric": "latency_ms", "may_retrain": False}),
    ],
)
def test_alert_that_may_not_retrain_is_recorded(loop, workload, policy, changes):
    with loop.units.open(loop.context) as uow:
        replace_policy(uow, "extractor", Policy.model_validate(policy))
    loop.say(_alert(loop, workload, **changes))
    assert _cycles(loop) == []
    assert "retraining.declined" in loop.actions()


def test_alert_on_a_release_that_is_not_live_is_out_of_date(loop, workload):
    loop.say(_alert(loop, workload, release_id="rel_gone"))
    assert _cycles(loop) == []


def test_alert_soon_after_a_cycle_waits_for_the_interval(loop, workload):
    loop.say(_alert(loop, workload))
    loop.execute(
        "UPDATE workloads.cycles SET stage = 'closed', outcome = 'failed', closed_at = now()"
    )
    with pytest.raises(Unavailable) as refused, loop.units.open(loop.context) as uow:
        cycles.answer_alert(uow, _alert(loop, workload, alert_id="alert_2"))
    assert 50 < refused.value.retry_after <= 60
    loop.execute("UPDATE workloads.cycles SET created_at = now() - interval '61 s'")
    loop.say(_alert(loop, workload, alert_id="alert_2"))
    assert _open(loop, workload).alert_id == "alert_2"


@pytest.mark.parametrize("ending", ["refused", "failed", "gate", "rolled_back"])
def test_what_goes_wrong_closes_the_cycle_with_the_reason(loop, workload, ending):
    cycle_id, seal = _until_sealing(loop, workload)
    asker = Requester(kind="cycle", id=cycle_id)
    if ending == "refused":
        loop.say(
            DatasetRefused(
                dataset_id=seal["dataset_id"],
                requester=asker,
                code="too_few",
                message="only 3 rows",
                param="training",
            )
        )
    else:
        loop.say(_sealed(cycle_id, seal))
        job = {"job_id": "ftjob-7", "cycle_id": cycle_id}
        if ending == "failed":
            loop.say(JobFailed(**job, code="nan", message="loss is not a number"))
        else:
            loop.say(JobSucceeded(**job, model_id="ft:x", dataset_id=seal["dataset_id"]))
            verdict = "fail" if ending == "gate" else "pass"
            loop.emit(
                EvaluationCompleted(
                    evaluation_id="eval_1",
                    model="ft:x",
                    cycle_id=cycle_id,
                    verdict=verdict,
                    reason="by 9 points",
                )
            )
            [delivery] = [d for d in loop.due() if d.task == "workloads.hear_evaluation"]
            loop.answer(delivery)
        if ending == "rolled_back":
            loop.take("releases.start_release")
            loop.say(
                ReleaseRolledBack(
                    release_id="rel_1",
                    workload_id=workload,
                    model="ft:x",
                    cycle_id=cycle_id,
                    reason="worse",
                )
            )
    [cycle] = _cycles(loop)
    assert cycle.outcome == ("rolled_back" if ending == "rolled_back" else "failed")
    assert cycle.closed_at
    words = {"refused": "3 rows", "failed": "nan", "gate": "9 points", "rolled_back": "worse"}
    assert words[ending] in cycle.reason


def test_deadline_of_the_current_step_expires_the_cycle(loop, workload):
    cycle_id, seal = _until_sealing(loop, workload)
    [check] = loop.sent("workloads.check_deadline")
    assert check == {"cycle_id": cycle_id, "step": "dataset"}
    loop.say(CheckCycleDeadline(cycle_id=cycle_id, step="job"))
    assert _open(loop, workload)
    loop.say(CheckCycleDeadline(cycle_id=cycle_id, step="dataset"))
    [cycle] = _cycles(loop)
    assert cycle.outcome == "expired"
    assert "dataset" in cycle.reason
    loop.say(_sealed(cycle_id, seal))  # too late
    assert loop.sent("finetuning.submit_job") == []


def test_each_step_has_a_deadline_of_its_own(loop, workload):
    cycle_id, seal = _until_sealing(loop, workload)
    loop.say(_sealed(cycle_id, seal))
    assert [check["step"] for check in loop.sent("workloads.check_deadline")] == ["dataset", "job"]
    due = loop.rows(
        "SELECT extract(epoch FROM due_at - created_at) AS seconds FROM spine.deliveries "
        "WHERE task = 'workloads.check_deadline' ORDER BY seq"
    )
    assert [int(row.seconds) for row in due] == [7 * 86_400, 86_400]


def test_name_and_aliases_are_taken_once_in_a_project(loop, rival, workload):
    def create(room, name, aliases=()):
        with room.units.open(room.context) as uow:
            create_workload(uow, name=name, base_model=BASE, aliases=list(aliases), policy=Policy())

    with pytest.raises(Conflict) as refused:
        create(loop, "extractor")
    assert refused.value.param == "name"
    create(loop, "second", ["ft:gpt-4o-mini:us::abc"])
    with pytest.raises(Conflict) as refused:
        create(loop, "third", ["ft:gpt-4o-mini:us::abc"])
    assert refused.value.param == "aliases"
    with pytest.raises(Conflict):
        create(loop, "fourth", ["extractor"])
    with pytest.raises(Conflict, match="base model"):
        create(loop, BASE)
    with pytest.raises(Missing, match=BASE), loop.units.open(loop.context) as uow:
        create_workload(uow, name="x", base_model="gpt-4o", aliases=[], policy=Policy())
    create(rival, "extractor", ["ft:gpt-4o-mini:us::abc"])
    assert loop.value("SELECT count(*) FROM workloads.workloads") == 2
    assert rival.value("SELECT count(*) FROM workloads.workloads_v1") == 1


def test_policies_are_appended_and_never_changed(loop, workload):
    with loop.units.open(loop.context) as uow:
        row = replace_policy(uow, "extractor", Policy(capture_content=True))
    assert row.policy_version == 2
    assert loop.live(workload).capture_content
    for statement in (
        "UPDATE workloads.policies SET version = 9",
        "DELETE FROM workloads.policies",
    ):
        with pytest.raises(ProgrammingError):
            loop.execute(statement)


def test_running_cycle_keeps_the_policy_it_began_with(loop, workload):
    loop.say(_alert(loop, workload))
    with loop.units.open(loop.context) as uow:
        replace_policy(
            uow, "extractor", Policy.model_validate({"retraining": {"min_corrections": 10}})
        )
    _correct(loop, workload, 12)
    row = _open(loop, workload)
    assert (row.cycle.needed, row.policy_version) == (24, 1)


def test_another_project_cannot_move_a_cycle(loop, rival, workload):
    loop.say(_alert(loop, workload))
    cycle_id = _open(loop, workload).cycle.cycle_id
    rival.say(CheckCycleDeadline(cycle_id=cycle_id, step="dataset"))
    assert _open(loop, workload)
    assert rival.rows("SELECT * FROM workloads.cycles") == []
