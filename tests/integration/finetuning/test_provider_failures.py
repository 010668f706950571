"""A provider that answers late, wrong, or not at all: nothing is lost, made twice or believed."""

from __future__ import annotations

import time
from collections import Counter

import celery
import pytest
from finetuning_room import PROJECT
from provider_room import JOBS, KEY, provider_room
from sqlalchemy import text

from shared.contracts.finetuning import ContinueJob
from shared.testing import upstream as acts
from shared.testing.provider import answer_with, word
from shared.testing.provider.protocol import error
from shared.testing.upstream.exchange import Payload

MAKING = ["upload", "create", "cancel"]
GARBLED = {
    "half a JSON": acts.send_raw(b'{"id": "ftjob-'),
    "another type": acts.send_raw(b"[1, 2, 3]"),
    "a page of HTML": acts.send_raw(b"<html>please log in</html>"),
    "nothing": acts.send_raw(b""),
    "an id that leads elsewhere": answer_with(id="../../v1/files"),
    "a number for a status": answer_with(status=7),
    "a NUL in the id": answer_with(id="ftjob-\0"),
}
SILENT = {
    "hang": acts.hang,
    "half a body": acts.half_a_body,
    "a byte a second": acts.drip(),
}


def _is_well(home, service, job_id):
    """It succeeded with one job, nothing is left there, and no secret was written down."""
    assert home.job(job_id)["status"] == "succeeded", home.job(job_id)
    assert service.created == Counter({job_id: 1})
    assert service.files == {}
    assert len(home.emitted("job.succeeded.v1")) == 1
    told = home.rows("SELECT message FROM finetuning.job_events")
    assert not [row for row in told if KEY in row.message]


# F-18


@pytest.mark.parametrize("operation", [*MAKING[:2], "retrieve", "content", "delete_file"])
def test_lost_answer_is_found_again_and_nothing_is_made_twice(home, service, operation):
    service.once(acts.lose_answer, on=operation)
    job_id = home.create()
    home.step_until(job_id, "done")
    _is_well(home, service, job_id)


def test_job_of_a_lost_answer_is_found_where_metadata_are_unknown(home, service):
    service.knows_metadata = False
    service.once(acts.lose_answer, on="create")
    job_id = home.create()
    home.step_until(job_id, "done")
    _is_well(home, service, job_id)


def test_rows_of_a_lost_answer_are_found_by_their_name(home, service):
    service.once(acts.lose_answer, on="upload")
    job_id = home.create()
    home.step_until(job_id, "following")
    assert len(service.files) == len(service.calls("upload")) == 1


def test_cancellation_whose_answer_is_lost_is_repeated(home, service):
    service.stages = ("running",)
    service.once(acts.refuse(503), acts.lose_answer, on="cancel")
    job_id = home.create()
    home.step_until(job_id, "following")
    home.client.post(f"{JOBS}/{job_id}/cancel")
    home.step_until(job_id, "done")
    (remote,) = service.jobs.values()
    assert remote["status"] == "cancelled"
    assert len(service.calls("cancel")) == 3


def test_job_cancelled_while_the_answer_to_its_creation_is_lost_is_stopped(home, service):
    service.stages = ("running",)
    service.once(acts.lose_answer, on="create")
    job_id = home.create()
    home.step(2)
    assert home.run(job_id).remote_job is None
    assert len(service.jobs) == 1
    home.client.post(f"{JOBS}/{job_id}/cancel")
    home.step_until(job_id, "done")
    (remote,) = service.jobs.values()
    assert remote["status"] == "cancelled"


def test_twins_of_an_unlucky_past_are_cancelled(home, service):
    service.stages = ("running",)
    job_id = home.create()
    home.step_until(job_id, "creating")
    for _ in range(2):
        service._create(
            {
                "model": "base-1",
                "training_file": next(iter(service.files)),
                "metadata": {"perpetune_job": job_id},
            }
        )
    home.step_until(job_id, "following")
    assert [job["status"] for job in service.jobs.values()] == ["cancelled", "validating_files"]
    assert service.calls("create") == []


def test_job_made_by_a_step_that_lost_its_delivery_is_taken_back(home, service):
    """A worker froze between its look and its creation, and another did the step meanwhile."""
    job_id = home.create()
    home.step_until(job_id, "creating")
    (step,) = home.due("finetuning.continue_job")

    def overtaken(exchange):
        service.behave()
        # Another worker, which began before this answer.
        home.rows("UPDATE finetuning.provider_runs SET remote_job = 'ftjob-other'")
        with home.spine.open(PROJECT) as uow:
            uow.session.execute(text("DELETE FROM spine.deliveries WHERE id = :i"), {"i": step.id})
        acts.answer(exchange)

    service.always(overtaken, on="create")
    home.step()
    (remote,) = service.jobs.values()
    assert remote["status"] == "cancelled"


# F-14


@pytest.mark.parametrize("rest", [20, None])
@pytest.mark.parametrize("operation", ["upload", "create", "retrieve"])
def test_rest_that_the_provider_asks_for_is_given(home, service, operation, rest):
    service.stages = ("queued", "running", "running", "succeeded")
    service.once(acts.refuse(429, retry_after=rest), on=operation)
    job_id = home.create()
    while not home.run(job_id).failures:
        home.step()
    (step,) = home.due("finetuning.continue_job")
    assert step.due <= 4 if rest is None else 18 < step.due <= 20
    home.step_until(job_id, "done")
    _is_well(home, service, job_id)


@pytest.mark.parametrize(
    ("header", "longest"), [("Wed, 21 Oct 2099 07:28:00 GMT", 3600), ("soon", 4), ("-5", 4)]
)
def test_strange_retry_after_neither_hurries_nor_stops_us(home, service, header, longest):
    service.once(acts.refuse(429, retry_after=header), on="upload")
    job_id = home.create()
    home.step()
    (step,) = home.due("finetuning.continue_job")
    assert 0 <= step.due <= longest
    home.step_until(job_id, "done")


def test_owner_who_cancels_does_not_break_the_rest(home, service):
    service.stages = ("running",)
    job_id = home.create()
    home.step_until(job_id, "following")
    service.once(acts.refuse(429, retry_after=30), on="retrieve")
    home.step()
    home.client.post(f"{JOBS}/{job_id}/cancel")
    (step,) = home.due("finetuning.continue_job")
    assert step.due > 25


# F-15


@pytest.mark.parametrize("operation", ["upload", "create", "retrieve", "events", "model"])
def test_burst_of_errors_is_sat_out_and_told_once(home, service, operation):
    job_id = home.create()
    with service.during(acts.refuse(503), on=operation):
        while home.run(job_id).failures < 5:
            home.step()
    home.step_until(job_id, "done")
    _is_well(home, service, job_id)
    warnings = [event for event in home.events(job_id) if event["level"] == "warn"]
    assert len(warnings) == 1
    assert "answered 503" in warnings[0]["message"]


def test_pauses_grow_and_stay_below_the_longest(home, service):
    home.create()
    pauses = []
    with service.during(acts.refuse(500), on="list_files"):
        for _ in range(12):
            home.step()
            (step,) = home.due("finetuning.continue_job")
            pauses.append(float(step.due))
    assert max(pauses[:2]) <= 0.4
    assert 0.4 < max(pauses[6:]) <= 4


def test_provider_that_stays_away_fails_the_job_and_what_it_made_is_stopped_later(
    database, tmp_path, service, monkeypatch
):
    with provider_room(
        database, tmp_path, service, monkeypatch, provider_patience_seconds=1
    ) as home:
        service.stages = ("running",)
        job_id = home.create()
        home.step_until(job_id, "following")
        with service.during(acts.refuse(503), on="retrieve"):
            home.step()
            time.sleep(1.1)
            home.step()
        job = home.job(job_id)
        assert (job["status"], job["error"]["code"]) == ("failed", "server_error")
        home.step_until(job_id, "done")
        (remote,) = service.jobs.values()
        assert remote["status"] == "cancelled"


def test_key_that_is_not_accepted_is_waited_for(home, service):
    service.once(
        lambda exchange: exchange.send(error(401, "invalid_api_key", f"wrong: {KEY}")), on="upload"
    )
    job_id = home.create()
    home.step()
    assert home.job(job_id)["status"] == "queued"
    home.step_until(job_id, "done")
    _is_well(home, service, job_id)


def test_nobody_at_home_is_waited_for(home, service):
    job_id = home.create()
    service.stop()
    home.step(2)
    assert home.run(job_id).failures == 2
    service.start()
    home.step_until(job_id, "done")
    _is_well(home, service, job_id)


# F-16


@pytest.mark.parametrize("operation", ["upload", "create", "retrieve", "content"])
@pytest.mark.parametrize("fault", SILENT)
def test_silence_ends_with_the_time_of_a_step(home, service, fault, operation):
    service.once(SILENT[fault], on=operation)
    job_id = home.create()
    slowest = 0.0
    while home.run(job_id).phase != "done":
        began = time.monotonic()
        home.step()
        slowest = max(slowest, time.monotonic() - began)
    assert 0.9 < slowest < 4
    _is_well(home, service, job_id)


# F-17, as far as answers that are no streams have it


@pytest.mark.parametrize("fault", GARBLED)
def test_garbled_answer_to_a_creation_is_no_job(home, service, fault):
    service.once(GARBLED[fault], on="create")
    job_id = home.create()
    home.step_until(job_id, "done")
    _is_well(home, service, job_id)


@pytest.mark.parametrize("operation", ["list_files", "list_jobs", "retrieve", "events"])
def test_answer_that_is_no_json_is_asked_for_again(home, service, operation):
    service.once(acts.send_raw(b"\xff\xfe{"), on=operation)
    job_id = home.create()
    home.step_until(job_id, "done")
    _is_well(home, service, job_id)


def test_events_with_strange_numbers_and_words_are_cleaned(home, service):
    job_id = home.create()
    home.step_until(job_id, "following")
    (remote_id,) = service.jobs
    service._events[remote_id].append(
        {
            "id": "ftevent-strange",
            "level": "catastrophe",
            "message": "a\0b\x1b[31m" + "x" * 5000,
            "type": "metrics",
            "data": {"step": 10**400, "train_loss": "NaN", "valid_loss": 0.5, "sneaky": "x"},
        }
    )
    home.step_until(job_id, "done")
    (strange,) = [event for event in home.events(job_id) if event["message"].startswith("a b")]
    assert len(strange["message"]) == 1000
    assert strange["level"] == "info"
    assert strange["data"] == {"valid_loss": 0.5}


def test_answer_that_does_not_end_is_given_up(home, service):
    service.once(acts.send_raw(b"[" * (17 << 20)), on="retrieve")
    job_id = home.create()
    home.step_until(job_id, "done")
    _is_well(home, service, job_id)


def test_redirect_is_not_followed(home, service):
    service.once(
        lambda exchange: exchange.send(Payload.of({}, 302), location=f"{service.url}/v1/files"),
        on="create",
    )
    job_id = home.create()
    home.step_until(job_id, "done")
    job = home.job(job_id)
    assert (job["status"], job["error"]["code"]) == ("failed", "provider_answered_302")


# F-19


def test_word_nobody_knows_is_waited_on_and_told_once(home, service):
    service.stages = ("running",)
    job_id = home.create()
    home.step_until(job_id, "following")
    with service.during(word("transmogrified"), on="retrieve"):
        home.step(4)
    assert home.job(job_id)["status"] == "queued"
    warnings = [event for event in home.events(job_id) if event["level"] == "warn"]
    assert ["transmogrified" in event["message"] for event in warnings] == [True]
    service.go_on("succeeded")
    home.step_until(job_id, "done")
    _is_well(home, service, job_id)


@pytest.mark.parametrize("operation", ["model", "content"])
def test_artefact_that_comes_late_is_waited_for(home, service, operation):
    service.once(acts.not_found, acts.not_found, on=operation)
    job_id = home.create()
    home.step_until(job_id, "done")
    _is_well(home, service, job_id)
    assert len(home.job(job_id)["result_files"]) == 1


@pytest.mark.parametrize(
    "lie", [("model", acts.not_found), ("retrieve", answer_with(fine_tuned_model=None))]
)
def test_success_without_a_model_is_none(database, tmp_path, service, monkeypatch, lie):
    on, act = lie
    with provider_room(
        database, tmp_path, service, monkeypatch, provider_missing_seconds=1
    ) as home:
        job_id = home.create()
        home.step_until(job_id, "collecting")
        service.always(act, on=on)
        home.step()
        assert home.job(job_id)["status"] in {"queued", "running"}
        time.sleep(1.1)
        home.step_until(job_id, "done")
        job = home.job(job_id)
        assert (job["status"], job["fine_tuned_model"]) == ("failed", None)
        assert job["error"]["code"] == "provider_artefact_missing"
        assert home.emitted("job.succeeded.v1") == []


def test_model_whose_metrics_are_gone_is_kept(database, tmp_path, service, monkeypatch):
    with provider_room(
        database, tmp_path, service, monkeypatch, provider_missing_seconds=2
    ) as home:
        job_id = home.create()
        service.always(acts.not_found, on="content")
        home.step_until(job_id, "collecting")
        home.step()
        time.sleep(1.2)
        home.step_until(job_id, "done")
        job = home.job(job_id)
        assert (job["status"], job["result_files"]) == ("succeeded", [])
        assert "no result file" in home.messages(job_id)[-1]


# What is refused for good


def test_provider_that_trains_no_more_says_what_to_do(home, service):
    service.once(
        lambda exchange: exchange.send(error(403, "training_not_available", "closed")), on="create"
    )
    job_id = home.create()
    home.step_until(job_id, "done")
    told = home.job(job_id)["error"]
    assert told["code"] == "training_not_available"
    assert "Train an open base on this server instead" in told["message"]
    assert service.files == {}


def test_refusal_is_told_in_the_providers_words_without_the_key(home, service):
    said = f"model 'x' is bad for {KEY}\0\nwhatever " + "y" * 3000
    service.once(lambda exchange: exchange.send(error(400, "bad_model", said)), on="create")
    job_id = home.create()
    home.step_until(job_id, "done")
    told = home.job(job_id)["error"]
    assert told["code"] == "bad_model"
    assert "model 'x' is bad for ***" in told["message"]
    assert len(told["message"]) < 700
    assert KEY not in str(home.events(job_id))


def test_unknown_model_at_the_provider_fails_at_once(home, service):
    service.once(acts.not_found, on="create")
    job_id = home.create()
    home.step_until(job_id, "done")
    assert home.job(job_id)["error"]["code"] == "not_found_error"


def test_job_that_is_gone_at_the_provider_fails_after_a_while(
    database, tmp_path, service, monkeypatch
):
    with provider_room(
        database, tmp_path, service, monkeypatch, provider_missing_seconds=1
    ) as home:
        job_id = home.create()
        home.step_until(job_id, "following")
        service.jobs.clear()
        home.step()
        assert home.job(job_id)["status"] == "queued"
        time.sleep(1.1)
        home.step_until(job_id, "done")
        assert home.job(job_id)["status"] == "failed"


def test_rows_that_are_too_many_bytes_are_not_sent(database, tmp_path, service, monkeypatch):
    with provider_room(
        database, tmp_path, service, monkeypatch, provider_max_file_bytes=1024
    ) as home:
        rows = [
            {
                "messages": [
                    {"role": "user", "content": "x" * 200},
                    {"role": "assistant", "content": "y"},
                ]
            }
            for _ in range(10)
        ]
        job_id = home.create(training_file=home.upload(rows))
        home.step_until(job_id, "done")
        told = home.job(job_id)["error"]
        assert (told["code"], told["param"]) == ("file_too_large_for_provider", "training_file")
        assert service.calls("upload") == []


def test_step_that_keeps_ending_its_worker_does_not_leave_the_job_behind(home, service):
    job_id = home.create()
    with home.spine.open(PROJECT) as uow:
        uow.session.execute(text("UPDATE spine.deliveries SET starts = 2"))
    home.step()
    assert home.run(job_id).failures == 1
    (step,) = home.due("finetuning.continue_job")
    assert step.starts == 0
    home.step_until(job_id, "done")
    _is_well(home, service, job_id)


def test_repeated_and_out_of_date_steps_do_nothing(home, service):
    job_id = home.create()
    home.step_until(job_id, "following")
    calls = len(service.calls())
    with home.units.open(PROJECT) as uow:
        uow.emit(ContinueJob(job_id=job_id, position=0))
        uow.emit(ContinueJob(job_id="ftjob-unknown", position=0))
    steps = home.due("finetuning.continue_job")
    assert len(steps) == 3
    for step in steps[1:]:
        celery.current_app.tasks["finetuning.continue_job"](str(step.id))
    assert len(service.calls()) == calls
    assert len(home.due("finetuning.continue_job")) == 1
