"""Batches on a real Postgres, asked of the simulated model server by the unmodified client."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter

import openai
import pytest
from batch_doors import (
    CHAT,
    PROJECTS,
    Batches,
    batch_door,
    batches_of,
    ingestion_worker,
    line,
    lines,
)
from inference_doors import BASE, World, await_true
from queue_doors import DoorProcess
from sqlalchemy import URL, make_url, text

from services.inference.batches import repository
from services.inference.bootstrap import make_store
from services.inference.settings import InferenceSettings
from services.inference.shipper import Shipper
from shared.context import Context
from shared.db import Units, make_engine
from shared.ids import Project
from shared.settings import CoreSettings
from shared.testing.gate import Weather, open_gate
from shared.testing.upstream import Upstream, hang, refuse, slow
from tests.faults.small_disk import full, small_disk, why_not

AGAIN = {"x-stainless-retry-count": "1"}


@pytest.fixture
def upstream():
    with Upstream() as started:
        yield started


@pytest.fixture
def batches(upstream, database, tmp_path, fast, monkeypatch):
    world = World(tmp_path, upstream.url, InferenceSettings(batch_poll_seconds=0.05, **fast))
    with batches_of(world, database, monkeypatch) as opened, ingestion_worker(opened):
        yield opened


@pytest.fixture
def door(batches):
    with batch_door(batches):
        yield


def answered(batches: Batches, batch, project: str = "acme") -> list[str]:
    """Custom ids of the output file."""
    return [each["custom_id"] for each in batches.content(batch.output_file_id, project)]


def codes(batches: Batches, batch) -> list[str]:
    """Codes in the error file."""
    found = batches.content(batch.error_file_id)
    return [(each["error"] or each["response"]["body"]["error"])["code"] for each in found]


def test_every_line_is_in_one_of_the_two_files(batches, door):
    given = [*lines(1, 2), line("3", model="gpt-9"), line("4", temperature=9), *lines(5)]
    made = batches.create(given, metadata={"for": "test"})
    assert (made.status, made.request_counts.total, made.output_file_id) == ("validating", 0, None)
    batch = batches.awaited(made.id)
    counts = batch.request_counts
    assert batch.status == "completed"
    assert (counts.total, counts.completed, counts.failed) == (5, 3, 2)
    output, errors = (batches.content(each) for each in (batch.output_file_id, batch.error_file_id))
    assert [each["custom_id"] for each in output] == ["1", "2", "5"]
    for each in output:
        body = each["response"]["body"]
        assert (each["response"]["status_code"], each["error"]) == (200, None)
        assert body["choices"][0]["message"]["content"].startswith("The answer is ")
        assert each["response"]["request_id"].startswith("inf_")
    assert [each["custom_id"] for each in errors] == ["3", "4"]
    assert [each["response"]["status_code"] for each in errors] == [404, 400]
    assert codes(batches, batch) == ["model_not_found", "invalid_value"]
    used = [each["response"]["body"]["usage"]["total_tokens"] for each in output]
    assert batch.usage.total_tokens == sum(used)
    assert batch.metadata == {"for": "test"}
    assert batch.model is None
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at
    assert batch.expires_at == batch.created_at + 86_400


def test_completions_and_embeddings_are_asked_as_well(batches, door):
    for url, body in (
        ("/v1/completions", {"model": BASE, "prompt": "Say"}),
        ("/v1/embeddings", {"model": BASE, "input": "sky"}),
    ):
        given = [{"custom_id": "a", "method": "POST", "url": url, "body": body}]
        batch = batches.awaited(batches.create(given, endpoint=url).id)
        (only,) = batches.content(batch.output_file_id)
        assert only["response"]["body"]["usage"]["prompt_tokens"] > 0
        assert (batch.model, batch.error_file_id) == (BASE, None)


def test_a_broken_file_fails_by_its_lines_and_nothing_is_asked(batches, door, upstream):
    made = batches.create([*lines(1, 1), line("2", stream=True), line("3", url="/v1/embeddings")])
    batch = batches.awaited(made.id)
    assert (batch.status, batch.failed_at is not None) == ("failed", True)
    assert [(error.code, error.line, error.param) for error in batch.errors.data] == [
        ("duplicate_custom_id", 2, "custom_id"),
        ("unsupported_parameter", 3, "body.stream"),
        ("mismatched_url", 4, "url"),
    ]
    assert not upstream.calls("complete")
    (event,) = batches.rows("SELECT envelope FROM spine.events WHERE type = 'batch.failed.v1'")
    assert event.envelope["data"]["code"] == "duplicate_custom_id"


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"input_file_id": "file-none"}, "file_not_found", "input_file_id"),
        ({"endpoint": "/v1/responses"}, "invalid_value", "endpoint"),
        ({"completion_window": "1h"}, "invalid_value", "completion_window"),
        ({"extra_body": {"colour": 1}}, "invalid_value", "colour"),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 60}},
            "invalid_value",
            "output_expires_after.seconds",
        ),
    ],
)
def test_a_request_that_cannot_be_carried_out_names_its_field(batches, fields, code, param):
    with pytest.raises(openai.BadRequestError) as refused:
        batches.client().batches.create(
            **{
                "input_file_id": batches.upload(lines(1)),
                "endpoint": CHAT,
                "completion_window": "24h",
                **fields,
            }
        )
    assert (refused.value.code, refused.value.param) == (code, param)


def test_a_file_for_something_else_or_too_large_is_refused(batches, monkeypatch):
    create = batches.client().batches.create
    options = {"endpoint": CHAT, "completion_window": "24h"}
    with pytest.raises(openai.BadRequestError) as refused:
        create(input_file_id=batches.upload(lines(1), purpose="user_data"), **options)
    assert refused.value.code == "wrong_file_purpose"
    large = batches.upload(lines(1))
    batches.execute("UPDATE ingestion.files SET bytes = 300000000 WHERE id = :id", id=large)
    with pytest.raises(openai.BadRequestError) as refused:
        create(input_file_id=large, **options)
    assert refused.value.code == "file_too_large"


def test_a_repeated_request_gets_the_batch_it_made(batches):
    file_id = batches.upload(lines(1))

    def create(**headers: str) -> str:
        made = batches.client().batches.create(
            input_file_id=file_id, endpoint=CHAT, completion_window="24h", extra_headers=headers
        )
        return made.id

    first = create()
    assert create(**AGAIN) == first
    assert create() != first
    keyed = create(**{"idempotency-key": "k"})
    assert create(**{"idempotency-key": "k"}) == keyed


def test_another_project_sees_and_uses_nothing(batches, door):
    batch = batches.awaited(batches.create(lines(1)).id)
    rival = batches.client("rival")
    assert rival.batches.list().data == []
    for act in (rival.batches.retrieve, rival.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            act(batch.id)
    with pytest.raises(openai.NotFoundError):
        rival.files.content(batch.output_file_id)
    with pytest.raises(openai.BadRequestError):
        rival.batches.create(
            input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h"
        )


def test_batches_are_listed_newest_first_in_pages(batches):
    made = [batches.create(lines(1)).id for _ in range(5)]
    listed = [batch.id for batch in batches.client().batches.list(limit=2)]
    assert listed == made[::-1]
    with pytest.raises(openai.BadRequestError):
        batches.client().batches.list(after="batch_none")


def test_a_cancelled_batch_keeps_what_was_answered(batches, door, upstream):
    upstream.always(slow(0.05))
    made = batches.create(lines(*range(200)))
    await_true(lambda: batches.seen(made.id).request_counts.completed >= 3)
    assert batches.client().batches.cancel(made.id).status == "cancelling"
    assert batches.client().batches.cancel(made.id).status in {"cancelling", "cancelled"}
    batch = batches.awaited(made.id, "cancelled")
    counts = batch.request_counts
    assert counts.completed + counts.failed == counts.total == 200
    assert len(answered(batches, batch)) == counts.completed >= 3
    assert Counter(codes(batches, batch)) == {"batch_cancelled": counts.failed}
    assert batch.cancelling_at <= batch.cancelled_at
    again = {"extra_headers": AGAIN}
    assert batches.client().batches.cancel(made.id, **again).status == "cancelled"
    with pytest.raises(openai.BadRequestError) as refused:
        batches.client().batches.cancel(made.id)
    assert refused.value.code == "batch_not_cancellable"


def test_a_batch_cancelled_before_it_was_looked_at_has_no_files(batches):
    made = batches.create(lines(1))
    batches.client().batches.cancel(made.id)
    with batch_door(batches):
        batch = batches.awaited(made.id)
    assert (batch.status, batch.output_file_id, batch.error_file_id) == ("cancelled", None, None)


def test_what_is_not_answered_in_time_is_told_as_expired(batches, door, upstream):
    upstream.always(slow(0.05))
    made = batches.create(lines(*range(100)))
    await_true(lambda: batches.seen(made.id).request_counts.completed >= 3)
    batches.execute("UPDATE inference.batches SET expires_at = now() WHERE id = :id", id=made.id)
    batch = batches.awaited(made.id)
    counts = batch.request_counts
    assert (batch.status, batch.expired_at is not None) == ("expired", True)
    assert counts.completed + counts.failed == counts.total == 100
    assert len(answered(batches, batch)) == counts.completed
    assert Counter(codes(batches, batch)) == {"batch_expired": counts.failed}


def test_a_model_that_is_busy_for_a_while_is_waited_for(batches, upstream):
    # More than the core repeats by itself.
    upstream.once(*[refuse(503)] * 8)
    with batch_door(batches):
        batch = batches.awaited(batches.create(lines(1, 2)).id)
    assert (batch.request_counts.completed, batch.error_file_id) == (2, None)


def test_projects_take_turns_line_by_line(batches, upstream):
    batches.world.settings = batches.world.settings.model_copy(update={"batch_concurrency": 1})
    upstream.always(slow(0.05))
    with batch_door(batches):
        long = batches.create(lines(*range(300)))
        await_true(lambda: batches.seen(long.id).request_counts.completed >= 2)
        short = batches.create(lines("x", "y", "z"), "rival")
        assert batches.awaited(short.id, project="rival").status == "completed"
        assert batches.seen(long.id).request_counts.completed < 150
        batches.client().batches.cancel(long.id)
        batches.awaited(long.id)


def test_slow_lines_of_one_project_leave_another_its_share(batches, upstream):
    """Were they to take turns, each of the thirty would wait for a slow line."""
    batches.world.settings = batches.world.settings.model_copy(update={"batch_concurrency": 2})
    upstream.always(slow(1.0), on="complete")
    url = "/v1/embeddings"
    quick = [
        {"custom_id": name, "method": "POST", "url": url, "body": {"model": BASE, "input": name}}
        for name in map(str, range(30))
    ]
    with batch_door(batches):
        long = batches.create(lines(*range(100)))
        await_true(lambda: len(upstream.calls("complete")) == 2)
        short = batches.create(quick, "rival", endpoint=url)
        batch = batches.awaited(short.id, "finalizing", "completed", project="rival", seconds=6)
        assert batch.request_counts.completed == 30
        batches.client().batches.cancel(long.id)
        batches.awaited(long.id)


def test_few_lines_are_asked_at_once_and_a_cancellation_waits_for_none(batches, door, upstream):
    upstream.always(hang)
    made = {project: batches.create(lines(*range(20)), project).id for project in PROJECTS}
    seats = batches.world.settings.batch_concurrency
    await_true(lambda: len(upstream.calls("complete")) == seats)
    time.sleep(0.3)
    assert len(upstream.calls("complete")) == seats
    for project, batch_id in made.items():
        batches.client(project).batches.cancel(batch_id)
    for project, batch_id in made.items():
        assert batches.awaited(batch_id, project=project).request_counts.failed == 20
    await_true(lambda: upstream.departures >= seats)


def test_files_are_named_when_they_can_be_fetched(upstream, database, tmp_path, fast, monkeypatch):
    world = World(tmp_path, upstream.url, InferenceSettings(batch_poll_seconds=0.05, **fast))
    with batches_of(world, database, monkeypatch) as batches:
        expiry = {"anchor": "created_at", "seconds": 3_600}
        made = batches.create(lines(1), output_expires_after=expiry)
        with batch_door(batches):
            batches.awaited(made.id, "finalizing")
            time.sleep(0.3)
        waiting = batches.seen(made.id)
        assert (waiting.status, waiting.output_file_id) == ("finalizing", None)
        assert not batches.rows("SELECT FROM spine.events WHERE type = 'batch.completed.v1'")
        # Whoever goes on writes no second file.
        with batch_door(batches), ingestion_worker(batches):
            batch = batches.awaited(made.id)
        files = batches.client().files.list(purpose="batch_output").data
        assert [file.id for file in files] == [batch.output_file_id]
        file = batches.client().files.retrieve(batch.output_file_id)
        assert (file.purpose, file.status) == ("batch_output", "processed")
        assert file.expires_at == file.created_at + 3_600
        assert file.bytes == len(batches.client().files.content(file.id).content)


def test_a_batch_that_waits_for_its_files_makes_way(
    upstream, database, tmp_path, fast, monkeypatch
):
    one_at_a_time = {"batch_poll_seconds": 0.05, "batch_projects": 1, "batch_rest_seconds": 0.1}
    world = World(tmp_path, upstream.url, InferenceSettings(**one_at_a_time, **fast))
    with batches_of(world, database, monkeypatch) as batches, batch_door(batches):
        first = batches.create(lines(1))
        batches.awaited(first.id, "finalizing")
        second = batches.create(lines(2), "rival")
        batches.awaited(second.id, "finalizing", project="rival")
        with ingestion_worker(batches):
            for made, project in ((first, "acme"), (second, "rival")):
                assert batches.awaited(made.id, project=project).status == "completed"


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_disk_without_room_is_waited_for_and_fails_the_batch_in_the_end(
    upstream, database, tmp_path, fast, monkeypatch
):
    settings = {"batch_rest_seconds": 0.01, "batch_max_attempts": 3, "batch_poll_seconds": 0.05}
    world = World(tmp_path, upstream.url, InferenceSettings(**settings, **fast))
    disk = tmp_path / "small"
    with (
        small_disk(disk, 1 << 20),
        batches_of(world, database, monkeypatch) as batches,
        ingestion_worker(batches),
    ):
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        with full(disk), batch_door(batches):
            failed = batches.awaited(batches.create(lines(1)).id)
        assert (failed.status, failed.errors.data[0].code) == ("failed", "storage_full")
        with batches.units.open(Context.root(Project("acme"), "test")) as uow:
            assert repository.answered_lines(uow, failed.id) == frozenset()
        with batch_door(batches):
            with full(disk):
                made = batches.create(lines(1))
                await_true(lambda: _is_set_aside(batches))
            assert batches.awaited(made.id).status == "completed"


def _is_set_aside(batches: Batches) -> bool:
    aside = "SELECT FROM spine.leases WHERE owner IS NULL AND until IS NOT NULL"
    return bool(batches.rows(aside))


def test_the_end_is_told_once_and_leaves_nothing_behind(batches, door):
    batch = batches.awaited(batches.create(lines(1, 2)).id)
    (event,) = batches.rows("SELECT envelope FROM spine.events WHERE type = 'batch.completed.v1'")
    assert event.envelope["subject"] == batch.id
    assert event.envelope["data"] == {
        "batch_id": batch.id,
        "total": 2,
        "completed": 2,
        "failed": 0,
    }
    actions = batches.rows(
        "SELECT action FROM spine.audit_entries WHERE subject = :id ORDER BY seq", id=batch.id
    )
    assert [row.action for row in actions] == ["batch.created", "batch.completed"]
    assert not batches.rows("SELECT FROM spine.leases WHERE subject = :id", id=batch.id)
    with batches.units.open(Context.root(Project("acme"), "test")) as uow:
        assert not repository.answered_lines(uow, batch.id)


def test_lines_are_recorded_as_a_door_of_their_own(batches, door, spine):
    batches.awaited(batches.create(lines(1, 2)).id)
    recorded = batches.world.await_lines(2)
    assert {each.record.door for each in recorded} == {"batch"}
    shipper = Shipper(batches.world.spool, make_store(spine), period_seconds=1, rows=500)
    shipper.ship()
    rows = batches.rows("SELECT door FROM inference.records_v1")
    assert [row.door for row in rows] == ["batch", "batch"]


def test_a_door_that_stops_gives_its_batch_to_another(batches, upstream):
    upstream.always(slow(0.05))
    made = batches.create(lines(*range(40)))
    with batch_door(batches, lease_seconds=600):
        await_true(lambda: batches.seen(made.id).request_counts.completed >= 3)
    upstream.behave()
    with batch_door(batches, lease_seconds=600):
        batch = batches.awaited(made.id)
    assert answered(batches, batch) == [str(number) for number in range(40)]
    # Four lines at most were under way when the door stopped.
    assert sum(upstream.generated.values()) <= 40 + 4


def test_two_doors_share_no_batch(batches, upstream):
    upstream.always(slow(0.01))
    made = [batches.create(lines(*range(number, number + 10))).id for number in range(0, 60, 10)]
    with batch_door(batches), batch_door(batches):
        ended = [batches.awaited(each) for each in made]
    assert all(batch.request_counts.completed == 10 for batch in ended)
    assert set(upstream.generated.values()) == {1}
    assert upstream.generated.total() == 60


def test_a_door_outlives_a_database_that_refuses_for_good(batches):
    """Whatever it is that is mended later, the door, and its queue, need no new start."""
    owner = Units(make_engine(batches.database.owner, CoreSettings()))
    made = batches.create(lines(1))

    def rule(statement: str) -> None:
        with owner.open(Context.root(Project("acme"), "test")) as uow:
            uow.session.execute(text(statement))

    rule("REVOKE UPDATE ON spine.leases FROM spine")
    with batch_door(batches):
        time.sleep(0.5)
        assert batches.seen(made.id).status == "validating"
        rule("GRANT UPDATE ON spine.leases TO spine")
        assert batches.awaited(made.id).status == "completed"
    owner.engine.dispose()


def test_a_batch_that_kills_every_door_has_failed(batches):
    made = batches.create(lines(1))
    batches.execute("UPDATE inference.batches SET attempts = 5 WHERE id = :id", id=made.id)
    with batch_door(batches):
        batch = batches.awaited(made.id)
    assert (batch.status, batch.errors.data[0].code) == ("failed", "door_died")


def test_a_batch_whose_bytes_are_gone_has_failed(batches):
    made = batches.create(lines(1))
    batches.execute("UPDATE inference.batches SET input_digest = repeat('f', 64)")
    with batch_door(batches):
        batch = batches.awaited(made.id)
    assert (batch.status, batch.errors.data[0].code) == ("failed", "blob_missing")


def test_a_file_that_is_deleted_later_is_answered_all_the_same(batches):
    made = batches.create(lines(1))
    batches.client().files.delete(made.input_file_id)
    with batch_door(batches):
        assert batches.awaited(made.id).status == "completed"


@pytest.mark.parametrize(
    "weather",
    [Weather(is_refusing=True), Weather(cut_after=b"COMMIT")],
    ids=["away", "commits cut"],
)
def test_an_answer_outlives_the_absence_of_postgres(batches, upstream, weather):
    """Guarantee: what was answered meanwhile is recorded once, and not asked again."""
    upstream.always(slow(0.05))
    address = make_url(batches.database.app)
    with open_gate(address.host, address.port) as gate:
        units = Units(make_engine(at_port(address, gate.port), CoreSettings()))
        with batch_door(batches, lease_seconds=30, units=units):
            made = batches.create(lines(*range(60)))
            await_true(lambda: batches.seen(made.id).request_counts.completed >= 5)
            with gate.during(weather):
                gate.reset()
                time.sleep(2)
            batch = batches.awaited(made.id)
        units.engine.dispose()
    assert answered(batches, batch) == [str(number) for number in range(60)]
    assert batch.request_counts.completed == 60
    assert set(upstream.generated.values()) == {1}


def at_port(address: URL, port: int) -> str:
    return address.set(port=port).render_as_string(hide_password=False)


def test_a_killed_door_costs_no_line_and_doubles_none(batches, upstream, bus_url):
    """Guarantee: whenever a door is killed, every line has one answer, and few are asked twice."""
    upstream.always(slow(0.02))
    total, kills = 300, 4
    made = batches.create(lines(*range(total)))
    options = {"LEASE_SECONDS": "1", "INFERENCE_BATCH_POLL_SECONDS": "0.05"}
    for _ in range(kills):
        victim = DoorProcess(batches.world, batches.database, bus_url, **options)
        try:
            enough = upstream.generated.total() + random.randint(1, 30)
            await_true(lambda most=enough: upstream.generated.total() >= most, 40)
        finally:
            victim.kill()
    survivor = DoorProcess(batches.world, batches.database, bus_url, **options)
    try:
        batch = batches.awaited(made.id, seconds=50)
        assert survivor.stop() == 0
    finally:
        survivor.kill()
    assert answered(batches, batch) == [str(number) for number in range(total)]
    assert batch.request_counts.completed == batch.request_counts.total == total
    assert upstream.generated.total() <= total + kills * 4
