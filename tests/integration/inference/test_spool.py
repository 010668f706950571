"""Records on their way from a process to Postgres."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from records_to_store import make_record
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from services.inference.bootstrap import SYSTEM, make_store
from services.inference.figures import measure
from services.inference.records import Content
from services.inference.shipper import Shipper
from services.inference.spool import Spool
from shared.context import Context
from shared.db import Units, make_engine
from shared.errors import Unavailable
from shared.ids import Project, uuid7
from shared.settings import CoreSettings
from shared.spine import feeds


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(folder) -> Spool:
    return Spool(folder, segment_bytes=2048, max_bytes=1 << 20)


@pytest.fixture
def shipper(spool, spine) -> Shipper:
    return Shipper(spool, make_store(spine), period_seconds=0.05, rows=7)


def _stored(units: Units, table: str = "records") -> set[str]:
    with units.open(SYSTEM) as uow:
        rows = uow.session.execute(text(f"SELECT request FROM inference.{table}"))
        return {row.request.hex for row in rows}


def test_records_arrive_once_and_their_files_go(spool, shipper, spine, folder):
    records = [make_record() for _ in range(40)]
    for record in records:
        spool.append(record, None)
    shipper.ship()
    assert _stored(spine) == {record.request for record in records}
    assert len(list(folder.glob("*.jsonl"))) == 1
    shipper.ship()
    assert len(_stored(spine)) == 40


def test_sending_the_same_lines_again_changes_nothing(spool, spine):
    spool.append(make_record(), Content([{"role": "user", "content": "a"}], "b"))
    for _ in range(2):
        Shipper(spool, make_store(spine), period_seconds=1, rows=10).ship()
    with spine.open(SYSTEM) as uow:
        for table in ("records", "contents"):
            count = uow.session.execute(text(f"SELECT count(*) FROM inference.{table}"))
            assert count.scalar_one() == 1


def test_thread_ships_while_records_come_and_the_rest_at_its_end(spool, shipper, spine):
    shipper.start()
    first = make_record()
    spool.append(first, None)
    end = time.monotonic() + 5
    while not _stored(spine):
        assert time.monotonic() < end
        time.sleep(0.02)
    last = make_record()
    spool.append(last, None)
    shipper.stop()
    spool.close()
    assert _stored(spine) == {first.request, last.request}


def test_clean_end_leaves_an_empty_folder(spool, shipper, folder):
    spool.append(make_record(), None)
    spool.rotate()
    shipper.ship()
    spool.close()
    assert list(folder.iterdir()) == []


def _measured(shipper) -> dict[str, float]:
    return {
        sample.name.removeprefix("inference_"): sample.value
        for metric in measure(shipper)
        for sample in metric.samples
    }


def test_backlog_is_what_postgres_does_not_have(folder, spine):
    away, is_away = make_store(spine), [True]

    def store(lines):
        if is_away[0]:
            raise Unavailable("away", code="test")
        away(lines)

    spool = Spool(folder, segment_bytes=2048, max_bytes=8192)
    shipper = Shipper(spool, store, period_seconds=1, rows=7)
    assert _measured(shipper)["spool_waiting_bytes"] == 0
    for _ in range(60):
        spool.append(make_record(), None)
    with pytest.raises(Unavailable):
        shipper.ship()
    time.sleep(0.1)
    before = _measured(shipper)
    assert 0 < before["spool_waiting_bytes"] <= 8192
    assert before["spool_folder_bytes"] == before["spool_waiting_bytes"]
    assert before["spool_waiting_seconds"] >= 0.1
    assert before["records_dropped_total"] == spool.dropped > 0
    is_away[0] = False
    shipper.ship()
    spool.rotate()
    spool.append(make_record(), None)
    shipper.ship()
    after = _measured(shipper)
    # The current file keeps lines that are shipped already; they wait for nothing.
    assert after["spool_folder_bytes"] > 0
    assert (after["spool_waiting_bytes"], after["spool_waiting_seconds"]) == (0, 0)
    spool.put_aside(b"12345")
    assert _measured(shipper)["spool_poison_bytes"] == 6
    spool.close()


@pytest.mark.timeout(180)
def test_killed_process_loses_no_appended_record(folder, spine):
    """Guarantee: what was appended before a SIGKILL is stored, once, by another process.

    So is the chat that a caller asked to keep, which is a part of its line.
    """
    appended: set[str] = set()
    for _ in range(20):
        writer = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("crashing_writer.py")), str(folder)],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        lines = [writer.stdout.readline()]
        time.sleep(random.uniform(0, 0.02))
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.readlines()
        writer.wait()
        appended |= {line.strip() for line in lines if line.endswith("\n")}
    heir = Spool(folder, segment_bytes=1 << 20, max_bytes=1 << 20)
    Shipper(heir, make_store(spine), period_seconds=1, rows=500).adopt()
    stored = _stored(spine)
    assert appended <= stored
    assert _stored(spine, "stored_completions") == stored
    # A record may be appended and not yet reported when the signal arrives: one a process.
    assert len(stored - appended) <= 20
    heir.close()
    assert [path.name for path in folder.iterdir()] == []


def test_half_a_line_of_a_dead_process_is_no_poison(folder, spine):
    spool = Spool(folder, segment_bytes=1 << 20, max_bytes=1 << 20)
    spool.append(make_record(), None)
    (segment,) = spool.segments()
    with segment.path.open("ab") as cut:
        cut.write(b'{"half')
    spool.close()
    heir = Spool(folder, segment_bytes=1 << 20, max_bytes=1 << 20)
    Shipper(heir, make_store(spine), period_seconds=1, rows=500).adopt()
    assert len(_stored(spine)) == 1
    assert heir.poisoned == 0
    heir.close()
    assert list(folder.iterdir()) == []


def test_living_process_is_not_robbed(folder, spool, spine):
    spool.append(make_record(), None)
    other = Spool(folder, segment_bytes=1 << 20, max_bytes=1 << 20)
    Shipper(other, make_store(spine), period_seconds=1, rows=10).adopt()
    assert _stored(spine) == set()
    assert spool.waiting_bytes > 0


def test_away_database_keeps_the_records_and_bounds_them(folder):
    url = "postgresql+psycopg://spine@127.0.0.1:1/none"
    away = make_store(Units(make_engine(url, CoreSettings(), pool=1)))
    spool = Spool(folder, segment_bytes=2048, max_bytes=4000)
    shipper = Shipper(spool, away, period_seconds=1, rows=10)
    for _ in range(20):
        spool.append(make_record(), None)
    with pytest.raises(Unavailable):
        shipper.ship()
    assert 0 < spool.waiting_bytes <= 4000
    assert 0 < spool.dropped < 20
    assert spool.appended == 20


def test_records_kept_while_the_database_was_away_arrive_later(spool, spine):
    url = "postgresql+psycopg://spine@127.0.0.1:1/none"
    away = make_store(Units(make_engine(url, CoreSettings(), pool=1)))
    back = make_store(spine)
    stores = [away]

    def store(lines) -> None:
        stores[-1](lines)

    shipper = Shipper(spool, store, period_seconds=1, rows=10)
    records = [make_record() for _ in range(15)]
    for record in records:
        spool.append(record, None)
    with pytest.raises(Unavailable):
        shipper.ship()
    stores.append(back)
    shipper.ship()
    assert _stored(spine) == {record.request for record in records}


def test_dropped_and_lost_records_show_as_gaps(spine, folder):
    spool = Spool(folder, segment_bytes=2048, max_bytes=3000)
    for _ in range(20):
        spool.append(make_record(), None)
    shipper = Shipper(spool, make_store(spine), period_seconds=1, rows=10)
    shipper.ship()
    spool.rotate()
    shipper.ship()
    spool.append(make_record(), None)
    shipper.ship()
    with spine.open(SYSTEM) as uow:
        gap = uow.session.execute(text("SELECT * FROM inference.record_gaps_v1")).one()
    assert gap.written == 21
    assert gap.missing == spool.dropped > 0


@pytest.mark.parametrize(
    "poison",
    [
        b"not json\n",
        b"{}\n",
        b'{"boot": "x", "counter": 0, "record": {"project": "a"}, "content": null}\n',
    ],
)
def test_line_that_cannot_be_read_is_moved_aside(spool, shipper, spine, folder, poison):
    spool.append(make_record(), None)
    with spool.segments()[-1].path.open("ab") as file:
        file.write(poison)
    spool.append(make_record(), None)
    shipper.ship()
    assert len(_stored(spine)) == 2
    assert spool.poisoned == 1
    assert (folder / "poison.jsonl").read_bytes() == poison


def test_record_that_postgres_refuses_does_not_hold_up_the_others(spool, shipper, spine, folder):
    good = [make_record() for _ in range(5)]
    for record in (*good[:3], make_record(arm="left"), *good[3:]):
        spool.append(record, None)
    shipper.ship()
    assert _stored(spine) == {record.request for record in good}
    assert spool.poisoned == 1
    assert b'"left"' in (folder / "poison.jsonl").read_bytes()


def test_words_that_cannot_be_stored_do_not_take_the_record_with_them(spool, shipper, spine):
    record = make_record(workload_id="wl_1")
    spool.append(record, Content([{"role": "user", "content": "a\0b"}], "c"))
    shipper.ship()
    assert _stored(spine) == {record.request}
    assert spool.poisoned == 1


def test_records_lie_in_the_partition_of_their_day(spool, shipper, spine):
    yesterday = uuid7(milliseconds=int(time.time() * 1000) - 86_400_000)
    next_year = uuid7(milliseconds=int(time.time() * 1000) + 365 * 86_400_000)
    for request in (uuid7(), yesterday, next_year):
        spool.append(make_record(request=request.hex), None)
    shipper.ship()
    with spine.open(SYSTEM) as uow:
        rows = uow.session.execute(
            text("SELECT tableoid::regclass::text AS part, created_at FROM inference.records")
        ).all()
    parts = {row.part for row in rows}
    assert len(parts) == 3
    assert "inference.records_other" in parts
    for row in rows:
        assert row.part in {
            f"inference.records_{row.created_at:%Y%m%d}",
            "inference.records_other",
        }


def test_project_sees_its_own_records_through_the_feed(spool, shipper, database):
    app = Units(make_engine(database.app, CoreSettings()))
    for project in ("acme", "acme", "other"):
        spool.append(make_record(project=project), Content([], "x"))
    shipper.ship()
    with app.open(Context.root(Project("acme"), "test")) as uow:
        rows, cursor = feeds.read(uow.session, "inference.records_v1", feeds.Cursor(), limit=10)
        assert {row.project for row in rows} == {"acme"}
        assert len(rows) == 2
        again, _ = feeds.read(uow.session, "inference.records_v1", cursor, limit=10)
        assert again == []
        contents = uow.session.execute(text("SELECT project FROM inference.contents_v1"))
        assert [row.project for row in contents] == ["acme", "acme"]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO inference.contents VALUES ('acme', 'i', 'w', '[]', '', now())",
        "UPDATE inference.records SET model = 'x'",
        "DELETE FROM inference.records",
        "SELECT * FROM inference.record_gaps_v1",
        "SELECT inference.ensure_day(current_date)",
    ],
)
def test_project_cannot_write_records(database, statement):
    app = Units(make_engine(database.app, CoreSettings()))
    with pytest.raises(DBAPIError), app.open(Context.root(Project("acme"), "t")) as uow:
        uow.session.execute(text(statement))


def test_not_even_their_owner_changes_records(spool, shipper, database):
    spool.append(make_record(), None)
    shipper.ship()
    owner = Units(make_engine(database.owner, CoreSettings()))
    with pytest.raises(DBAPIError), owner.open(Context.root(Project("acme"), "t")) as uow:
        uow.session.execute(text("UPDATE inference.records SET model = 'x'"))
