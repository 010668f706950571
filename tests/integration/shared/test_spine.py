"""Deliveries, leases and audit entries on a real Postgres."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from shared.context import Context
from shared.contracts.workloads import WorkloadCreated
from shared.db import Units, make_engine
from shared.errors import LeaseLost, Unavailable
from shared.ids import Project
from shared.settings import CoreSettings
from shared.spine import deliveries, leases

A = Context.root(Project("a"), "test")
B = Context.root(Project("b"), "test")


@pytest.fixture
def units(database):
    return Units(make_engine(database.app, CoreSettings()))


@pytest.fixture
def spine(database):
    return Units(make_engine(database.spine, CoreSettings()))


def _emit(units: Units, context: Context) -> str:
    with units.open(context) as uow:
        uow.emit(WorkloadCreated(workload_id="wl_1", name="x", base_model="m"))
        return str(uow.session.execute(text("SELECT id FROM spine.deliveries")).scalar_one())


def test_delivery_is_taken_once_and_a_rollback_leaves_it_due(units):
    delivery_id = _emit(units, A)
    with pytest.raises(ZeroDivisionError), units.open(A) as uow:
        assert deliveries.take(uow.session, delivery_id) is not None
        _ = 1 / 0
    with units.open(A) as uow:
        taken = deliveries.take(uow.session, delivery_id)
        assert taken is not None
        assert taken.task == "releases.install_base"
    with units.open(A) as uow:
        assert deliveries.take(uow.session, delivery_id) is None


def test_a_delivery_held_by_one_worker_is_invisible_to_another(units):
    delivery_id = _emit(units, A)
    with units.open(A) as first, units.open(A) as second:
        assert deliveries.take(first.session, delivery_id) is not None
        assert deliveries.take(second.session, delivery_id) is None


def test_rows_of_another_project_cannot_be_seen(units):
    _emit(units, A)
    with units.open(B) as uow:
        assert uow.session.execute(text("SELECT count(*) FROM spine.deliveries")).scalar_one() == 0
        assert uow.session.execute(text("SELECT count(*) FROM spine.events")).scalar_one() == 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE spine.audit_entries SET reason = 'x'",
        "DELETE FROM spine.audit_entries",
        "TRUNCATE spine.audit_entries",
    ],
)
def test_audit_entries_refuse_change_by_the_application(units, statement):
    with units.open(A) as uow:
        uow.audit("thing.made", "thing_1")
    with pytest.raises(ProgrammingError), units.open(A) as uow:
        uow.session.execute(text(statement))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE spine.audit_entries SET reason = 'x'",
        "DELETE FROM spine.audit_entries",
        "TRUNCATE spine.audit_entries",
    ],
)
def test_audit_entries_refuse_change_by_their_owner(units, database, statement):
    with units.open(A) as uow:
        uow.audit("thing.made", "thing_1")
    owner = Units(make_engine(database.owner, CoreSettings()))
    with pytest.raises(ProgrammingError, match="append-only"), owner.open(A) as uow:
        uow.session.execute(text(statement))


def test_a_server_that_only_reads_is_one_that_is_away(units):
    """As a standby is, on which a connection ended up during a failover."""
    with pytest.raises(Unavailable), units.open(A) as uow:
        uow.session.execute(text("SET TRANSACTION READ ONLY"))
        leases.offer(uow, "finetuning.job", "ftjob-1")


def test_work_of_projects_that_are_passed_over_is_left_alone(units, spine):
    for context in (A, B):
        with units.open(context) as uow:
            leases.offer(uow, "inference.batch", f"batch_{context.project}")
    with spine.open(A) as uow:
        passing_over = [A.project]
        lease = leases.claim(uow.session, "inference.batch", "one", 60, passing_over=passing_over)
        assert lease is not None
        assert lease.project == B.project
        both = [A.project, B.project]
        assert leases.claim(uow.session, "inference.batch", "one", 60, passing_over=both) is None
        assert leases.claim(uow.session, "inference.batch", "one", 60) is not None


def test_a_lease_set_aside_rests_and_stands_behind_others(units, spine):
    for one in (A, B):
        with units.open(one) as uow:
            leases.offer(uow, "inference.batch", one.project)

    def claim():
        with spine.open(A) as uow:
            return leases.claim(uow.session, "inference.batch", "one", 60)

    first = claim()
    with spine.open(A) as uow:
        leases.set_aside(uow.session, first, 0.2)
    second = claim()
    assert (second.project, claim()) == (B.project, None)
    with spine.open(A) as uow:
        leases.let_go(uow.session, second)
    time.sleep(0.25)
    assert [claim().project, claim().project] == [B.project, A.project]
    with spine.open(A) as uow:
        assert uow.session.execute(text("SELECT FROM spine.lease_expiries")).all() == []


def test_an_expired_lease_is_claimed_by_another_and_the_first_is_fenced(units, spine):
    with units.open(A) as uow:
        leases.offer(uow, "finetuning.job", "ftjob-1")
    with spine.open(A) as uow:
        first = leases.claim(uow.session, "finetuning.job", "one", 60)
    assert first is not None
    with spine.open(A) as uow:
        assert leases.claim(uow.session, "finetuning.job", "two", 60) is None
        uow.session.execute(text("UPDATE spine.leases SET until = now() - interval '1 s'"))
    with spine.open(A) as uow:
        second = leases.claim(uow.session, "finetuning.job", "two", 60)
    assert second is not None
    assert second.fence == first.fence + 1
    with pytest.raises(LeaseLost), units.open(A) as uow:
        leases.guard(uow, first)
    with units.open(A) as uow:
        leases.finish(uow, second)
    with pytest.raises(LeaseLost), spine.open(A) as uow:
        leases.renew(uow.session, second, 60)
