"""What becomes of deliveries that one message rings together."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import text

from shared import answering, attempt
from shared.attempt import Consumer
from shared.context import Context
from shared.contracts.workloads import WorkloadCreated
from shared.db import Units, make_engine
from shared.errors import Invalid, Unavailable
from shared.ids import Project
from shared.settings import CoreSettings

A = Context.root(Project("a"), "test")
SETTINGS = CoreSettings(
    database_pool_connections=1, task_hard_limit_seconds=4, task_soft_limit_seconds=3
)
TASK = "releases.install_base"


class Room:
    """One task, and what was done for it."""

    def __init__(self, database):
        self.units = Units(make_engine(database.app, SETTINGS))
        self.spine = Units(make_engine(database.spine, SETTINGS))
        self.owner = Units(make_engine(database.owner, SETTINGS))
        self.done: list[str] = []

    def rung(self, *names: str) -> list[str]:
        """Deliveries that were rung once; their ids."""
        with self.units.open(A) as uow:
            for name in names:
                uow.emit(WorkloadCreated(workload_id=name, name=name, base_model="m"))
        with self.spine.open(A) as uow:
            uow.session.execute(text("UPDATE spine.deliveries SET rings = 1, rung_at = now()"))
        return [row[0] for row in self.rows("CAST(id AS text)")]

    def rows(self, columns: str) -> list[tuple]:
        with self.spine.open(A) as uow:
            statement = text(f"SELECT {columns} FROM spine.deliveries ORDER BY seq")
            return [tuple(row) for row in uow.session.execute(statement)]

    def break_connections(self) -> None:
        """End the worker's sessions while it holds their connections, as a restart does."""
        with self.units.open(A):
            pass
        with self.owner.open(A) as uow:
            uow.session.execute(
                text(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                    "WHERE usename = 'app' AND datname = current_database()"
                )
            )

    def effect(self, uow, delivery):
        name = delivery.envelope.data["name"]
        assert uow.project == "a"
        uow.audit("thing.done", name)
        self.done.append(name)
        match name:
            case "refuses":
                raise Invalid("It cannot be done.", code="refused")
            case "asks to wait":
                raise Unavailable(code="busy", retry_after=60)
            case "raises":
                raise ValueError("It cannot be done.")
            case "takes long":
                time.sleep(1.1)  # over the twentieth of the hard limit

    def phased(self, work):
        with work.finish() as uow:
            self.effect(uow, work.delivery)

    def audited(self) -> list[str]:
        with self.spine.open(A) as uow:
            return list(
                uow.session.execute(
                    text("SELECT subject FROM spine.audit_entries WHERE action = 'thing.done'")
                ).scalars()
            )


@pytest.fixture
def room(database, monkeypatch):
    room = Room(database)
    monkeypatch.setattr(answering, "process_units", lambda: room.units)
    for module in (answering, attempt):
        monkeypatch.setattr(module, "process_settings", lambda: SETTINGS)
    consumer = Consumer(WorkloadCreated, room.phased, room.effect)
    monkeypatch.setattr(answering, "CONSUMERS", {TASK: consumer})
    yield room
    room.units.engine.dispose()


@pytest.fixture
def patience(monkeypatch):
    """No message is too long, however busy the machine is."""
    monkeypatch.setattr(answering, "_BATCH_SHARE", 1.0)


@pytest.mark.usefixtures("patience")
def test_each_is_answered_once_and_fails_alone(room):
    """Guarantee: a delivery that fails takes no effect of its neighbours with it."""
    ids = room.rung("first", "refuses", "raises", "last")
    answering.answer(ids)
    assert sorted(room.audited()) == ["first", "last"]
    assert room.rows("CAST(id AS text), starts, rings") == [(ids[2], 1, 0)]


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("is_phased", [False, True])
def test_copies_of_a_ringing_spend_no_attempt_of_what_waits_for_its_retry(room, is_phased):
    """Guarantee: what failed is tried again when its pause is over, and not before."""
    if is_phased:
        answering.CONSUMERS[TASK] = Consumer(WorkloadCreated, room.phased)
    ids = room.rung("asks to wait")
    for _ in range(3):
        answering.answer(ids)
    assert room.done == ["asks to wait"]
    assert room.rows("starts, rings, due_at > now() + interval '50 s'") == [(1, 0, True)]


def test_a_worker_of_the_last_release_begins_nothing_that_waits_for_its_retry(room):
    ids = room.rung("asks to wait")
    answering.answer(ids)
    with room.units.open(A) as uow:
        begun = uow.session.execute(
            text("SELECT id FROM spine.begin(CAST(:id AS uuid))"), {"id": ids[0]}
        ).scalar_one()
    assert begun is None


@pytest.mark.parametrize("rings", [1, 2])
def test_what_is_running_is_begun_by_no_copy_of_its_ringing(room, rings):
    """Guarantee: while nothing crashes, a task calls out once."""
    (delivery,) = room.rung("first")
    with room.spine.open(A) as uow:
        uow.session.execute(text("UPDATE spine.deliveries SET rings = :n"), {"n": rings})
    began = []

    def copy_and_finish(work):
        began.append(work.delivery.starts)
        answering.answer([delivery])
        room.phased(work)

    answering.CONSUMERS[TASK] = Consumer(WorkloadCreated, copy_and_finish)
    answering.answer([delivery])
    assert began == [rings - 1]
    assert room.audited() == ["first"]


def test_the_first_ringing_records_no_start_and_a_second_does(room):
    """Guarantee: what kills its worker is counted from its second ringing on."""
    (delivery,) = room.rung("raises")
    answering.answer([delivery])
    assert room.rows("starts") == [(1,)]
    with room.spine.open(A) as uow:
        uow.session.execute(
            text("UPDATE spine.deliveries SET rings = 2, starts = 0, due_at = now()")
        )
    starts = []
    room.effect = lambda *_: starts.extend(room.rows("starts"))
    answering.CONSUMERS[TASK] = Consumer(WorkloadCreated, room.phased, lambda *_: None)
    answering.answer([delivery])
    assert starts == [(1,)]
    assert room.rows("1") == []


def test_a_task_that_calls_out_keeps_nobody_waiting(room):
    """Guarantee: the rest of the message is due at once, and no attempt of it is spent."""
    ids = room.rung("first", "second", "third")
    seen = []

    def look_and_finish(work):
        seen.extend(room.rows("CAST(id AS text), rung_at IS NULL, rings, starts"))
        room.phased(work)

    answering.CONSUMERS[TASK] = Consumer(WorkloadCreated, look_and_finish)
    answering.answer(ids)
    assert seen == [(ids[0], False, 1, 0), (ids[1], True, 0, 0), (ids[2], True, 0, 0)]
    assert room.done == ["first"]


def test_the_rest_is_given_back_when_the_time_of_a_message_is_used_up(room):
    """Guarantee: a delivery never begins late in the time limit of its message."""
    ids = room.rung("takes long", "second")
    answering.answer(ids)
    assert room.done == ["takes long"]
    assert room.rows("CAST(id AS text), rung_at IS NULL, rings, starts") == [(ids[1], True, 0, 0)]


def test_what_was_rung_again_meanwhile_is_not_given_back(room):
    ids = room.rung("takes long", "second")
    with room.spine.open(A) as uow:
        uow.session.execute(
            text("UPDATE spine.deliveries SET rings = 2 WHERE id = CAST(:id AS uuid)"),
            {"id": ids[1]},
        )
    answering.answer(ids)
    assert room.rows("rung_at IS NULL, rings") == [(False, 2)]


def test_behind_an_unknown_task_the_others_are_given_back(room):
    """Guarantee: the worker's main process runs no body."""
    ids = room.rung("first", "second")
    answering.answer_unknown(ids)
    assert room.done == []
    assert room.rows("starts, rings, rung_at IS NULL") == [(1, 0, True), (0, 0, True)]


@pytest.mark.usefixtures("patience")
def test_a_connection_that_broke_a_moment_ago_costs_one_ringing_and_no_effect(room):
    """Guarantee: after a restart of Postgres nothing is lost or done twice."""
    ids = room.rung("first", "second", "third")
    room.break_connections()
    with pytest.raises(Unavailable):
        answering.answer(ids)
    assert room.done == []
    assert room.rows("rings, starts") == [(1, 0), (0, 0), (0, 0)]
    answering.answer(ids)
    assert sorted(room.audited()) == ["first", "second", "third"]


def test_a_connection_that_lay_idle_is_replaced_unnoticed(room):
    ids = room.rung("first")
    room.break_connections()
    time.sleep(1.1)
    answering.answer(ids)
    assert room.audited() == ["first"]
