"""Canaries from start to verdict, on outcomes and records in the real feeds."""

from __future__ import annotations

import pytest
from loop_rooms import BASE, canonical

from services.releases.domain import Verdict
from services.releases.service import canary, settle, start
from shared.context import Context
from shared.contracts.releases import FoldCanary, LoadRelease, StartRelease
from shared.contracts.workloads import WorkloadCreated
from shared.errors import Conflict, Missing
from shared.ids import Project


def _start(loop, workload, model, **gate):
    with loop.units.open(loop.context) as uow:
        gate = gate or {"evaluation_id": loop.add_evaluation(model, workload_id=workload)}
        release = start.request_release(
            uow,
            workload=workload,
            model=model,
            evaluation_id=gate.get("evaluation_id"),
            override_reason=gate.get("override_reason"),
        )
    loop.deliver()
    return release.release_id


def _fold(loop, release_id):
    loop.say(FoldCanary(release_id=release_id))


def _label(loop, workload, release_id, rounds, *, canary_success, control_success):
    control = loop.value(
        "SELECT control_release FROM releases.releases WHERE release_id = :id", id=release_id
    )
    for _ in range(rounds):
        loop.add_outcome(workload, control, control_success)
        loop.add_outcome(workload, release_id, canary_success, arm="canary")


def _state(loop, release_id):
    return loop.value("SELECT state FROM releases.releases WHERE release_id = :id", id=release_id)


def _promoted(loop, workload, suffix="one"):
    model = loop.add_model(suffix)
    release_id = _start(loop, workload, model)
    _label(loop, workload, release_id, 12, canary_success=1, control_success=0)
    _fold(loop, release_id)
    assert _state(loop, release_id) == "live"
    return release_id, model


def test_new_workload_answers_with_its_base_once(loop, workload):
    before = loop.live(workload)
    assert (before.live_model, before.canary_release, before.canary_share) == (BASE, None, 0)
    assert before.name == "extractor"
    loop.say(WorkloadCreated(workload_id=workload, name="extractor", base_model=BASE))
    assert loop.live(workload) == before


def test_release_is_loaded_then_gets_its_first_share(loop, workload):
    model = loop.add_model("one")
    release_id = _start(loop, workload, model)
    route = loop.live(workload)
    assert (route.live_model, route.canary_model, route.canary_share) == (BASE, model, 0.25)
    assert route.canary_release == release_id
    assert loop.serving.adapters[model].endswith(
        loop.value("SELECT gguf_digest FROM releases.models")
    )
    assert loop.schedules("canary.fold.v1") == {release_id}
    assert "release.started" in loop.actions()


def test_better_canary_is_promoted_with_its_evidence(loop, workload):
    release_id, model = _promoted(loop, workload)
    route = loop.live(workload)
    assert (route.live_release, route.live_model, route.canary_release) == (
        release_id,
        model,
        None,
    )
    [decision] = loop.rows(
        "SELECT * FROM releases.decisions WHERE verdict = 'promoted' AND evidence IS NOT NULL"
    )
    assert decision.evidence["e_promote"] >= decision.evidence["promote_threshold"]
    assert decision.evidence["canary_rate"] == 1
    assert decision.policy_version == 1
    assert loop.schedules("canary.fold.v1") == set()
    assert BASE not in loop.serving.adapters or loop.serving.adapters[BASE] is None
    assert loop.actions().count("release.promoted") == 2  # the base at first, now this one


def test_worse_canary_is_rolled_back_and_the_live_release_stays(loop, workload):
    release_id = _start(loop, workload, loop.add_model("bad"))
    _label(loop, workload, release_id, 12, canary_success=0, control_success=1)
    _fold(loop, release_id)
    assert _state(loop, release_id) == "rolled_back"
    route = loop.live(workload)
    assert (route.live_model, route.canary_release) == (BASE, None)
    assert "release.rolled_back" in loop.actions()


def test_fold_without_evidence_changes_nothing(loop, workload):
    release_id = _start(loop, workload, loop.add_model("one"))
    query = "SELECT canary, outcomes_cursor FROM releases.releases WHERE release_id = :id"
    before = loop.rows(query, id=release_id)
    _fold(loop, release_id)
    assert loop.rows(query, id=release_id) == before


def test_labels_of_requests_from_before_the_canary_do_not_count(loop, workload):
    release_id = _start(loop, workload, loop.add_model("one"))
    base_release = loop.live(workload).live_release
    for _ in range(5):
        loop.add_outcome(workload, base_release, 0, seconds_ago=60)
    loop.add_outcome(workload, base_release, 1)
    _fold(loop, release_id)
    found = loop.value("SELECT canary FROM releases.releases WHERE release_id = :id", id=release_id)
    assert found["success"]["control"] == {"count": 1, "total": 1}


def test_share_is_ramped_by_evidence_alone(loop, workload):
    loop.execute(
        "INSERT INTO workloads.policies SELECT project, workload_id, 2, "
        """jsonb_set(policy, '{canary,shares}', '[0.05, 0.25, 0.5]'), 'test'
        FROM workloads.policies"""
    )
    release_id = _start(loop, workload, loop.add_model("one"))
    assert loop.live(workload).canary_share == 0.05
    shares = []
    while _state(loop, release_id) == "canary":
        _label(loop, workload, release_id, 1, canary_success=1, control_success=1)
        _fold(loop, release_id)
        shares.append(loop.live(workload).canary_share)
    assert _state(loop, release_id) == "live"
    assert [share for share in (0.05, 0.25, 0.5) if share in shares] == [0.05, 0.25, 0.5]
    verdicts = loop.rows(
        "SELECT verdict, share FROM releases.decisions WHERE release_id = :id ORDER BY seq",
        id=release_id,
    )
    assert verdicts == [("started", 0.05), ("ramped", 0.25), ("ramped", 0.5), ("promoted", 1)]
    with loop.units.open(loop.context) as uow:
        assert canary.recompute(uow, release_id).is_equal


def test_failing_canary_is_rolled_back_by_its_guardrail(loop, workload):
    release_id = _start(loop, workload, loop.add_model("crashes"))
    base_release = loop.live(workload).live_release
    for unit in range(20):
        loop.add_record(workload, base_release, unit=f"a{unit}")
        loop.add_record(
            workload, release_id, unit=f"b{unit}", arm="canary", status="ok", fallback=True
        )
    _fold(loop, release_id)
    assert _state(loop, release_id) == "rolled_back"
    reason = loop.value("SELECT reason FROM releases.releases WHERE release_id = :i", i=release_id)
    assert "error" in reason


def test_broken_assignment_freezes_the_canary(loop, workload):
    release_id = _start(loop, workload, loop.add_model("one"))
    for unit in range(40):
        loop.add_record(workload, release_id, unit=f"u{unit}", arm="canary", seconds_ahead=5)
    _fold(loop, release_id)
    assert _state(loop, release_id) == "frozen"
    assert loop.live(workload).canary_release is None
    assert loop.value("SELECT count(*) FROM releases.seen_units") == 0
    with loop.units.open(loop.context) as uow:
        again = canary.recompute(uow, release_id)
    assert again.is_equal
    assert again.decision.verdict is Verdict.SAMPLE_RATIO_MISMATCH


def test_canary_without_a_verdict_in_time_is_frozen(loop, workload):
    release_id = _start(loop, workload, loop.add_model("one"))
    loop.execute(
        "UPDATE releases.releases SET started_at = now() - interval '8 days' WHERE state = 'canary'"
    )
    _fold(loop, release_id)
    assert _state(loop, release_id) == "frozen"
    loop.say(FoldCanary(release_id=release_id))
    with loop.units.open(loop.context) as uow:
        settle.roll_back(uow, release_id, "nobody needs it")
    assert _state(loop, release_id) == "rolled_back"


@pytest.mark.parametrize("batch", [1, 7, 60])
def test_replaying_the_feeds_gives_the_same_bits(loop, workload, batch):
    """However the feeds were cut into batches and interleaved, folding from zero agrees."""
    release_id = _start(loop, workload, loop.add_model("one"))
    base_release = loop.live(workload).live_release
    for step in range(60):
        arm, release = [("live", base_release), ("canary", release_id)][step % 2]
        loop.add_outcome(workload, release, int(step % 5 > 0), arm=arm)
        loop.add_record(
            workload,
            release,
            unit=f"u{step % 17}",
            arm=arm,
            latency_ms=100 + step * 1.1,
            tokens=40 + step % 7,
            seconds_ahead=5,
            cached=step % 6 == 0,
        )
        if step % batch == 0:
            _fold(loop, release_id)
    _fold(loop, release_id)
    with loop.units.open(loop.context) as uow:
        again = canary.recompute(uow, release_id)
        stored = canary.judge(canary.releases.load(uow, release_id), uow.now)
    assert again.is_equal
    assert again.decision.evidence.canary_outcomes == 30
    assert again.decision.evidence.units == 17
    assert canonical(canary.to_json(again.decision.evidence.guardrails[0])) == canonical(
        canary.to_json(stored.evidence.guardrails[0])
    )


def test_a_second_canary_waits_for_the_first(loop, workload):
    first = _start(loop, workload, loop.add_model("one"))
    with pytest.raises(Conflict, match=first):
        _start(loop, workload, loop.add_model("two"))
    waiting = _gated_by_a_cycle(loop, workload, loop.add_model("three"))
    assert _state(loop, waiting) == "gated"
    _label(loop, workload, first, 12, canary_success=0, control_success=1)
    _fold(loop, first)
    assert _state(loop, first) == "rolled_back"
    assert _state(loop, waiting) == "canary"


def _gated_by_a_cycle(loop, workload, model):
    message = StartRelease(
        cycle_id="cyc_1",
        workload_id=workload,
        model=model,
        evaluation_id=loop.add_evaluation(model, workload_id=workload),
    )
    loop.say(message)
    loop.say(message)  # a command that comes twice starts one release
    return loop.value("SELECT release_id FROM releases.releases WHERE cycle_id = 'cyc_1'")


def test_live_release_is_rolled_back_by_hand_to_the_one_before(loop, workload):
    base_release = loop.live(workload).live_release
    first, _ = _promoted(loop, workload, "one")
    second, _ = _promoted(loop, workload, "two")
    with loop.units.open(loop.context) as uow:
        settle.roll_back(uow, second, "wrong prices")
    assert loop.live(workload).live_release == first
    assert _state(loop, second) == "rolled_back"
    with loop.units.open(loop.context) as uow:
        settle.roll_back(uow, first, "wrong too")
    assert loop.live(workload).live_release == base_release
    with pytest.raises(Conflict, match="nothing to go back"), loop.units.open(loop.context) as uow:
        settle.roll_back(uow, base_release, "and now?")
    with pytest.raises(Conflict, match="final"), loop.units.open(loop.context) as uow:
        settle.roll_back(uow, second, "again")


def test_live_release_cannot_go_while_a_canary_is_compared_with_it(loop, workload):
    live, _ = _promoted(loop, workload, "one")
    second = _start(loop, workload, loop.add_model("two"))
    with pytest.raises(Conflict, match=second), loop.units.open(loop.context) as uow:
        settle.roll_back(uow, live, "wrong")


def test_models_that_no_release_needs_leave_the_server(loop, workload):
    """The live one and the one before it stay: going back is one row."""
    models = [_promoted(loop, workload, suffix)[1] for suffix in ("one", "two", "three")]
    _start(loop, workload, loop.add_model("four"))
    assert models[0] not in loop.serving.adapters
    assert {models[1], models[2]} <= set(loop.serving.adapters)


def test_another_project_sees_and_changes_nothing(loop, rival, workload):
    release_id = _start(loop, workload, loop.add_model("one"))
    for table in ("releases", "models", "decisions", "routes_v1", "models_v1"):
        assert rival.value(f"SELECT count(*) FROM releases.{table}") == 0
        assert loop.value(f"SELECT count(*) FROM releases.{table}") > 0
    with pytest.raises(Missing), rival.units.open(rival.context) as uow:
        settle.roll_back(uow, release_id, "not mine")
    nobody = Context.root(Project(""), "test")
    with loop.units.open(nobody) as uow:
        assert not canary.releases.list_newest(uow, None, None, 5)


def test_load_that_comes_late_changes_nothing(loop, workload):
    release_id, _ = _promoted(loop, workload)
    before = loop.live(workload)
    loop.say(LoadRelease(release_id=release_id))
    assert loop.live(workload) == before
