"""Monitors of live releases on the real feeds."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import ProgrammingError

from services.drift import service
from services.releases.service import settle, start
from shared.contracts.drift import FoldMonitor
from shared.contracts.releases import FoldCanary, ReleasePromoted


def _monitors(loop, metric="failure"):
    return loop.rows(
        "SELECT * FROM drift.monitors WHERE metric = :metric ORDER BY monitor_id", metric=metric
    )


def _fold(loop, metric="failure"):
    loop.say(FoldMonitor(monitor_id=_monitors(loop, metric)[-1].monitor_id))


def _label(loop, workload, outcomes):
    release = loop.live(workload).live_release
    for success in outcomes:
        loop.add_outcome(workload, release, success)


def _replace_live(loop, workload, suffix):
    """Promote a new model; returns its release."""
    model = loop.add_model(suffix)
    with loop.units.open(loop.context) as uow:
        release = start.request_release(
            uow,
            workload=workload,
            model=model,
            evaluation_id=None,
            override_reason="a test",
        ).release_id
    loop.deliver()
    control = loop.live(workload).live_release
    for _ in range(12):
        loop.add_outcome(workload, control, 0)
        loop.add_outcome(workload, release, 1, arm="canary")
    loop.say(FoldCanary(release_id=release))
    assert loop.live(workload).live_release == release
    return release


def test_live_release_is_watched_on_every_metric(loop, workload):
    rows = loop.rows("SELECT metric, state, release_id FROM drift.monitors")
    assert {row.metric for row in rows} == {"failure", "latency_ms", "tokens"}
    assert {row.state for row in rows} == {"baseline"}
    assert {row.release_id for row in rows} == {loop.live(workload).live_release}
    assert len(loop.schedules("monitor.fold.v1")) == 3


def test_baseline_is_pinned_from_the_first_outcomes(loop, workload):
    _label(loop, workload, [1] * 29)
    _fold(loop)
    assert _monitors(loop)[0].state == "baseline"
    _label(loop, workload, [0])
    _fold(loop)
    [monitor] = _monitors(loop)
    assert monitor.state == "watching"
    assert monitor.detector["baseline"]["n"] == 30
    assert monitor.detector["baseline"]["mean"] == pytest.approx(1 / 30)
    assert "baseline.pinned" in loop.actions()


def test_failures_after_the_baseline_raise_one_alert(loop, workload):
    _label(loop, workload, [1] * 40)
    _fold(loop)
    assert loop.rows("SELECT * FROM drift.alerts") == []
    _label(loop, workload, [0] * 30)
    _fold(loop)
    [alert] = loop.rows("SELECT * FROM drift.alerts")
    assert alert.evidence["statistic"] >= alert.evidence["threshold"] == 1000
    assert alert.evidence["onset_observations_ago"] <= 15
    assert alert.evidence["may_retrain"]
    [monitor] = _monitors(loop)
    assert monitor.state == "alarmed"
    assert monitor.monitor_id not in loop.schedules("monitor.fold.v1")
    assert monitor.cursor == alert.cursor
    [cycle] = loop.rows("SELECT * FROM workloads.cycles")
    assert (cycle.trigger, cycle.alert_id) == ("drift", alert.alert_id)

    _label(loop, workload, [0] * 30)
    _fold(loop)
    assert len(loop.rows("SELECT * FROM drift.alerts")) == 1


def test_alert_is_the_same_however_the_feed_is_cut(loop, workload):
    outcomes = [1] * 35 + [0, 1] * 4 + [0] * 30
    for success in outcomes:
        _label(loop, workload, [success])
        _fold(loop)
    [alert] = loop.rows("SELECT * FROM drift.alerts")
    [monitor] = _monitors(loop)
    # The feed is folded again from the beginning, in one go.
    loop.execute(
        "UPDATE drift.monitors SET detector = jsonb_build_object('metric', metric, 'policy', "
        "detector->'policy'), cursor = start, state = 'baseline' WHERE monitor_id = :id",
        id=monitor.monitor_id,
    )
    with loop.units.open(loop.context) as uow:
        again = service.monitors.find_locked(uow, monitor.monitor_id)
        state, cursor, found = service._fold_new(uow, again, service.Cursor.parse(again.start))
    assert str(cursor) == alert.cursor
    assert service.to_json(state) == monitor.detector
    assert service.to_json(found) == alert.evidence


def test_longer_answers_raise_an_alert_that_starts_no_retraining(loop, workload):
    release = loop.live(workload).live_release
    for number in range(35):
        loop.add_record(workload, release, unit="u", tokens=40 + number % 5)
    for _ in range(60):
        loop.add_record(workload, release, unit="u", tokens=90)
    _fold(loop, "tokens")
    [alert] = loop.rows("SELECT * FROM drift.alerts")
    assert alert.metric == "tokens"
    assert not alert.evidence["may_retrain"]
    assert loop.rows("SELECT * FROM workloads.cycles") == []
    assert "retraining.declined" in loop.actions()


@pytest.mark.parametrize("flags", [{"cached": True}, {"fallback": True}, {"status": "error"}])
def test_answers_that_are_not_the_releases_own_are_no_evidence(loop, workload, flags):
    release = loop.live(workload).live_release
    loop.add_record(workload, release, unit="u", **flags)
    _fold(loop, "latency_ms")
    assert _monitors(loop, "latency_ms")[0].detector["collected"] == []


def test_new_live_release_gets_monitors_of_its_own(loop, workload):
    _label(loop, workload, [1] * 31)
    _fold(loop)
    release = _replace_live(loop, workload, "one")
    first, second = _monitors(loop)
    assert first.state == "closed"
    assert first.closed_at
    assert (second.state, second.release_id) == ("baseline", release)
    assert len(loop.schedules("monitor.fold.v1")) == 3
    # The canary's own outcomes made it win; they are no baseline.
    _fold(loop)
    assert _monitors(loop)[1].detector["collected"] == []


def test_release_that_is_live_again_keeps_its_baseline(loop, workload):
    _label(loop, workload, [1] * 31)
    _fold(loop)
    release = _replace_live(loop, workload, "one")
    with loop.units.open(loop.context) as uow:
        settle.roll_back(uow, release, "wrong prices")
    loop.deliver()
    first, second, third = _monitors(loop)
    assert (first.state, second.state) == ("closed", "closed")
    assert third.release_id == first.release_id
    assert third.state == "watching"
    assert third.detector["baseline"] == first.detector["baseline"]
    assert third.detector["n"] == 0


def test_promotion_that_arrives_twice_or_late_changes_nothing(loop, workload):
    base_release = loop.live(workload).live_release
    _replace_live(loop, workload, "one")
    before = _monitors(loop)
    for release in (base_release, loop.live(workload).live_release):
        loop.say(
            ReleasePromoted(release_id=release, workload_id=workload, model="m", reason="again")
        )
    assert _monitors(loop) == before


def test_fold_of_a_closed_monitor_ends_its_schedule(loop, workload):
    [monitor] = _monitors(loop)
    loop.execute("UPDATE drift.monitors SET state = 'closed' WHERE metric = 'failure'")
    _fold(loop)
    assert monitor.monitor_id not in loop.schedules("monitor.fold.v1")


def test_another_project_sees_and_folds_nothing(loop, rival, workload):
    _label(loop, workload, [1] * 5)
    [monitor] = _monitors(loop)
    rival.say(FoldMonitor(monitor_id=monitor.monitor_id))
    assert _monitors(loop) == [monitor]
    assert rival.rows("SELECT * FROM drift.monitors") == []


def test_alerts_are_never_changed(loop, workload):
    _label(loop, workload, [1] * 40 + [0] * 30)
    _fold(loop)
    with pytest.raises(ProgrammingError):
        loop.execute("UPDATE drift.alerts SET metric = 'x'")
