"""What the task boundary makes of rows, errors and a database that goes away."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DataError

from shared import answering, attempt
from shared.attempt import Consumer
from shared.context import Context
from shared.contracts.workloads import WorkloadCreated
from shared.db import UnitOfWork, Units, make_engine
from shared.errors import Corrupt, Unavailable
from shared.ids import Project
from shared.settings import CoreSettings
from shared.spine.deliveries import Delivery
from shared.testing.gate import FAIR, Weather, open_gate
from shared.work import Work

A = Context.root(Project("a"), "test")
SECRET = "what the customer wrote"
SETTINGS = CoreSettings(delivery_attempts=3, database_pool_connections=1)


@pytest.fixture
def units(database, monkeypatch):
    units = Units(make_engine(database.app, SETTINGS))
    monkeypatch.setattr(answering, "process_units", lambda: units)
    for module in (answering, attempt):
        monkeypatch.setattr(module, "process_settings", lambda: SETTINGS)
    monkeypatch.setattr(answering, "CONSUMERS", {})
    yield units
    units.engine.dispose()


@pytest.fixture
def spine(database):
    return Units(make_engine(database.spine, SETTINGS))


def _planted(units: Units, spine: Units, changes: str = "task = task") -> str:
    """A delivery, changed behind the back of the code; its id."""
    with units.open(A) as uow:
        uow.emit(WorkloadCreated(workload_id="wl_1", name=SECRET, base_model="m"))
    with spine.open(A) as uow:
        statement = f"UPDATE spine.deliveries SET {changes} RETURNING CAST(id AS text)"
        return uow.session.execute(text(statement)).scalar_one()


def _make_due(spine: Units) -> None:
    with spine.open(A) as uow:
        uow.session.execute(text("UPDATE spine.deliveries SET due_at = now()"))


def _letters(spine: Units) -> list[tuple[str, str]]:
    with spine.open(A) as uow:
        rows = uow.session.execute(text("SELECT CAST(id AS text), reason FROM spine.dead_letters"))
        return [(row[0], row[1]) for row in rows]


def _attempts(spine: Units) -> int:
    """Of the one dead letter."""
    with spine.open(A) as uow:
        return uow.session.execute(text("SELECT starts FROM spine.dead_letters")).scalar_one()


def _audited(spine: Units) -> list[tuple[str, str]]:
    with spine.open(A) as uow:
        rows = uow.session.execute(text("SELECT action, subject FROM spine.audit_entries"))
        return [(row[0], row[1]) for row in rows]


def _answer(delivery: str, consumer: Consumer) -> None:
    answering.CONSUMERS["releases.install_base"] = consumer
    answering.answer([delivery])


def _read_whole(_uow: UnitOfWork, delivery: Delivery) -> None:
    WorkloadCreated.read(delivery.envelope.data)


def _read_phased(work: Work) -> None:
    with work.finish() as uow:
        _read_whole(uow, work.delivery)


WHOLE = Consumer(WorkloadCreated, _read_phased, _read_whole)
PHASED = Consumer(WorkloadCreated, _read_phased)


@pytest.mark.parametrize("consumer", [WHOLE, PHASED])
@pytest.mark.parametrize("rings", [1, 2])
@pytest.mark.parametrize(
    "changes",
    [
        "envelope = '[]'",
        "envelope = envelope - 'data'",
        "envelope = jsonb_set(envelope, '{time}', to_jsonb(envelope #>> '{data,name}'))",
        "envelope = jsonb_set(envelope, '{data,name}', envelope -> 'data')",
    ],
)
def test_a_row_that_cannot_be_read_is_a_dead_letter_that_quotes_nothing(
    units, spine, changes, rings, consumer
):
    delivery = _planted(units, spine, f"{changes}, rings = {rings}")
    _answer(delivery, consumer)
    ((letter, reason),) = _letters(spine)
    assert letter == delivery
    assert "cannot be read" in reason
    assert SECRET not in reason
    assert _audited(spine) == [("delivery.buried", delivery)]


@pytest.mark.parametrize("consumer", [WHOLE, PHASED])
@pytest.mark.parametrize("rings", [1, 2])
def test_a_row_never_acts_for_the_project_that_its_envelope_names(units, spine, rings, consumer):
    """Guarantee: a row acts for its own project or not at all."""
    other = "envelope = jsonb_set(envelope, '{project}', '\"b\"')"
    delivery = _planted(units, spine, f"{other}, rings = {rings}")
    _answer(delivery, consumer)
    ((letter, reason),) = _letters(spine)
    assert (letter, "message_of_another_project" in reason) == (delivery, True)
    assert _audited(spine) == [("delivery.buried", delivery)]


def test_a_task_that_no_worker_knows_is_a_dead_letter_after_its_attempts(units, spine):
    delivery = _planted(units, spine, "task = 'releases.no_such_task'")
    for _ in range(SETTINGS.delivery_attempts - 1):
        answering.answer_unknown([delivery])
        assert _letters(spine) == []
        _make_due(spine)
    answering.answer_unknown([delivery])
    ((letter, reason),) = _letters(spine)
    assert letter == delivery
    assert "releases.no_such_task" in reason
    assert _attempts(spine) == SETTINGS.delivery_attempts


def test_what_a_bug_says_is_in_no_row(units, spine):
    """Guarantee: a bug that quotes a message puts it into no dead letter and no audit log."""
    delivery = _planted(units, spine)

    def crash(_work: Work) -> None:
        raise ValueError(f"could not read {SECRET}")

    for _ in range(SETTINGS.delivery_attempts):
        _answer(delivery, Consumer(WorkloadCreated, crash))
        _make_due(spine)
    ((_, reason),) = _letters(spine)
    assert "ValueError at test_task_boundary.py:" in reason
    assert _attempts(spine) == SETTINGS.delivery_attempts
    with spine.open(A) as uow:
        told = uow.session.execute(
            text(
                "SELECT string_agg(last_error, '') || string_agg(CAST(a AS text), '') "
                "FROM spine.dead_letters, spine.audit_entries AS a"
            )
        ).scalar_one()
    assert SECRET not in reason + told


@pytest.mark.parametrize(("starts", "tried"), [(1, [2]), (2, [])])
def test_a_row_whose_attempts_all_killed_their_worker_is_not_tried_again(
    units, spine, starts, tried
):
    """Guarantee: what kills its worker kills as many as there are attempts, and no more."""
    # A second ringing says that what began with the first has never ended.
    delivery = _planted(units, spine, f"rings = 2, starts = {starts}")
    seen: list[int] = []
    _answer(delivery, Consumer(WorkloadCreated, lambda work: seen.append(work.delivery.starts)))
    assert seen == tried


def test_a_row_that_was_finished_meanwhile_is_not_said_to_be_buried(units, spine):
    """Guarantee: the audit log tells only what happened."""
    delivery = _planted(units, spine)

    def finish_and_fail(work: Work) -> None:
        with work.finish():
            pass
        raise Corrupt("Too late.", code="too_late")

    _answer(delivery, Consumer(WorkloadCreated, finish_and_fail))
    assert _letters(spine) == []
    assert _audited(spine) == []


def test_a_commit_without_an_answer_says_that_its_outcome_is_unknown(database, spine):
    """Guarantee: nobody is told that nothing happened when nobody knows."""
    address = make_url(database.app)
    with open_gate("127.0.0.1", address.port) as gate:
        behind = address.set(port=gate.port).render_as_string(hide_password=False)
        units = Units(make_engine(behind, SETTINGS))
        gate.set(Weather(cut_after=b"COMMIT"))
        with pytest.raises(Unavailable) as raised, units.open(A) as uow:
            uow.audit("thing.made", "thing_1")
        units.engine.dispose()
    assert raised.value.code == "outcome_unknown"
    # The server commits when it comes to it; nobody hears of that any more.
    deadline = time.monotonic() + 10
    while not (audited := _audited(spine)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert audited == [("thing.made", "thing_1")]


def test_a_server_that_falls_silent_is_given_up_and_found_again(database):
    """Guarantee: where bytes vanish and TCP looks alive, no thread of ours hangs for ever."""
    settings = CoreSettings(
        statement_timeout_milliseconds=500,
        answer_grace_milliseconds=300,
        database_connect_seconds=2,
        database_pool_connections=1,
    )
    address = make_url(database.app)
    with open_gate("127.0.0.1", address.port) as gate:
        units = Units(make_engine(address.set(port=gate.port).render_as_string(False), settings))
        with pytest.raises(Unavailable), units.open(A) as uow:
            uow.session.execute(text("SELECT 1"))
            silent = time.monotonic()
            gate.set(Weather(is_dropping=True))
            uow.session.execute(text("SELECT 2"))
        assert time.monotonic() - silent < 2
        with pytest.raises(Unavailable), units.open(A) as uow:
            uow.session.execute(text("SELECT 3"))
        assert time.monotonic() - silent < 5
        gate.set(FAIR)
        with units.open(A) as uow:
            assert uow.session.execute(text("SELECT 4")).scalar_one() == 4
        units.engine.dispose()


def test_a_commit_into_silence_says_that_its_outcome_is_unknown(database):
    settings = CoreSettings(statement_timeout_milliseconds=500, answer_grace_milliseconds=300)
    address = make_url(database.app)
    with open_gate("127.0.0.1", address.port) as gate:
        units = Units(make_engine(address.set(port=gate.port).render_as_string(False), settings))
        with pytest.raises(Unavailable) as raised, units.open(A) as uow:
            uow.session.execute(text("SELECT 1"))
            gate.set(Weather(is_dropping=True))
        units.engine.dispose()
    assert raised.value.code == "outcome_unknown"


def test_a_statement_that_is_too_slow_keeps_its_connection(database):
    """Guarantee: the server's own timeout comes first, and is no lost connection."""
    settings = CoreSettings(statement_timeout_milliseconds=300, answer_grace_milliseconds=1_700)
    units = Units(make_engine(database.app, settings))
    process = text("SELECT pg_backend_pid()")
    with units.open(A) as uow:
        before = uow.session.execute(process).scalar_one()
    with pytest.raises(Unavailable), units.open(A) as uow:
        uow.session.execute(text("SELECT pg_sleep(5)"))
    with units.open(A) as uow:
        assert uow.session.execute(process).scalar_one() == before
    units.engine.dispose()


def test_a_pool_that_is_used_up_is_a_passing_failure(database):
    engine = make_engine(database.app, SETTINGS)
    engine.pool._timeout = 0.1
    units = Units(engine)
    with units.open(A) as uow:
        uow.session.execute(text("SELECT 1"))
        with pytest.raises(Unavailable) as raised, units.open(A):
            pass
    assert raised.value.code == "database_busy"


def test_errors_of_the_database_quote_no_values(units):
    with pytest.raises(DataError) as raised, units.open(A) as uow:
        uow.session.execute(
            text("SELECT set_config('app.x', :content, true), CAST('x' AS int)"),
            {"content": SECRET},
        )
    assert SECRET not in str(raised.value)
