"""What happens at the same time, and what the doors' role may read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from sqlalchemy import text

from services.drift import service as drift
from services.releases.service import canary, start
from services.workloads.service import cycles
from shared.errors import Conflict


def _together(*jobs):
    """Results of the jobs, started at the same moment; an error of ours is a result."""
    barrier = Barrier(len(jobs))

    def run(job):
        barrier.wait(10)
        try:
            return job()
        except Conflict as error:
            return error

    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result(30) for future in [pool.submit(run, job) for job in jobs]]


def _release(loop, workload, model):
    with loop.units.open(loop.context) as uow:
        return start.request_release(
            uow, workload=workload, model=model, evaluation_id=None, override_reason="a test"
        )


def test_one_of_two_simultaneous_releases_is_refused(loop, workload):
    models = [loop.add_model("one"), loop.add_model("two")]
    results = _together(*(lambda m=model: _release(loop, workload, m) for model in models))
    assert sum(isinstance(result, Conflict) for result in results) == 1
    assert loop.value("SELECT count(*) FROM releases.releases WHERE state = 'gated'") == 1


def test_one_of_two_simultaneous_cycles_is_refused(loop, workload):
    def request():
        with loop.units.open(loop.context) as uow:
            return cycles.request_cycle(uow, workload, "")

    results = _together(request, request)
    assert sum(isinstance(result, Conflict) for result in results) == 1
    assert loop.value("SELECT count(*) FROM workloads.cycles") == 1


def test_simultaneous_folds_count_each_row_once(loop, workload):
    release = _release(loop, workload, loop.add_model("one"))
    loop.deliver()
    live = loop.live(workload).live_release
    monitor = loop.value("SELECT monitor_id FROM drift.monitors WHERE metric = 'failure'")
    for success in (1, 0, 1):
        loop.add_outcome(workload, release.release_id, success, arm="canary")
        loop.add_outcome(workload, live, success)

    def fold_canary():
        with loop.units.open(loop.context) as uow:
            canary.fold_canary(uow, release.release_id)

    def fold_monitor():
        with loop.units.open(loop.context) as uow:
            drift.fold_monitor(uow, monitor)

    _together(fold_canary, fold_canary, fold_monitor, fold_monitor)
    state = loop.value("SELECT canary FROM releases.releases WHERE state = 'canary'")
    assert state["success"]["canary"] == {"count": 3, "total": 2}
    detector = loop.value("SELECT detector FROM drift.monitors WHERE metric = 'failure'")
    assert detector["collected"] == [0, 1, 0]


def test_nothing_is_folded_past_a_transaction_that_still_runs(loop, workload):
    """It may write a row that comes earlier in the feed; going past it would lose that row."""
    release = _release(loop, workload, loop.add_model("one"))
    loop.deliver()
    live = loop.live(workload).live_release
    with loop.units.open(loop.context) as slow:
        slow.session.execute(text("SELECT pg_current_xact_id()"))
        loop.add_outcome(workload, live, 1)
        _fold(loop, release.release_id)
        assert _count(loop) == 0
    _fold(loop, release.release_id)
    assert _count(loop) == 1


def _fold(loop, release_id):
    with loop.units.open(loop.context) as uow:
        canary.fold_canary(uow, release_id)


def _count(loop):
    state = loop.value("SELECT canary FROM releases.releases WHERE state = 'canary'")
    return state["success"]["control"]["count"]


def test_doors_copy_the_routes_and_models_of_all_projects(loop, rival, workload):
    model = loop.add_model("one")
    with loop.spine.open(rival.context) as uow:
        routes = uow.session.execute(text("SELECT project FROM releases.routes_v1")).scalars()
        models = uow.session.execute(text("SELECT model_id FROM releases.models_v1")).scalars()
        assert loop.context.project in list(routes)
        assert model in list(models)
