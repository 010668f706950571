"""Answers that are not quite OpenAI's: what can be read is used, and no secret is kept."""

from __future__ import annotations

import json

import pytest
from provider_room import KEY

from services.finetuning.provider import mirror
from shared.testing import upstream as acts
from shared.testing.provider import answer_with, word
from shared.testing.provider.protocol import error, event
from shared.testing.upstream.exchange import Payload


def _following(home, service):
    service.stages = ("running",)
    job_id = home.create()
    home.step_until(job_id, "following")
    (remote_id,) = service.jobs
    return job_id, remote_id


@pytest.mark.parametrize("operation", ["events", "checkpoints"])
@pytest.mark.parametrize("status", [400, 403, 405, 501])
def test_service_without_events_or_checkpoints_will_do(home, service, operation, status):
    service.always(acts.refuse(status), on=operation)
    job_id = home.create()
    home.step_until(job_id, "done")
    assert home.job(job_id)["status"] == "succeeded"


def test_job_of_somebody_else_that_cannot_be_read_hides_none(home, service):
    service.knows_metadata = False
    job_id = home.create()
    home.step_until(job_id, "creating")
    for number, strange in enumerate([{"trained_tokens": 1.5}, {"status": 7}, {"metadata": "x"}]):
        name = f"ftjob-strange-{number}"
        service.jobs[name] = {"id": name, "status": "running", "result_files": []} | strange
        service.jobs[name].setdefault("fine_tuned_model", None)
    home.step()
    assert home.run(job_id).phase == "following"


def test_event_that_says_nothing_is_one_and_what_is_none_is_passed_over(home, service):
    job_id, remote_id = _following(home, service)
    service._events[remote_id] += [
        event(7, remote_id, "x") | {"message": None, "level": None},
        event(8, remote_id, "x") | {"id": 8},
    ]
    before = len(home.events(job_id))
    home.step()
    assert home.run(job_id).failures == 0
    # Besides it the two that were made when the job was created and began to run.
    assert len(home.events(job_id)) == before + 3


def test_events_that_take_longer_than_a_step_are_read_as_far_as_they_can_be(home, service):
    job_id, remote_id = _following(home, service)
    service._events[remote_id] += [event(n, remote_id, f"e{n}") for n in range(1, 2500)]
    with service.during(acts.slow(0.06), on="events"):
        home.step(2)
    run = home.run(job_id)
    assert (run.failures, run.last_event) == (0, service._events[remote_id][-1]["id"])
    told = home.rows("SELECT message FROM finetuning.job_events ORDER BY seq")
    assert "older events are left out" in str(told)


def test_service_that_makes_up_ids_is_listened_to_up_to_a_number(home, service, monkeypatch):
    monkeypatch.setattr(mirror, "MAX_EVENTS", 12)
    job_id, _ = _following(home, service)
    made = iter(range(10_000))

    def renamed(exchange):
        body = json.loads(exchange.perform().parts[0])
        for each in body["data"]:
            each["id"] = f"ev-{next(made)}"
        exchange.send(Payload.of(body))

    service.always(renamed, on="events")
    home.step(10)
    run = home.run(job_id)
    assert 12 <= run.events < 15
    assert run.quiet_looks > 2
    told = [message for message in home.messages(job_id) if "later ones are left out" in message]
    assert len(told) == 1


def test_words_nobody_knows_are_told_once_and_looked_at_more_rarely(home, service):
    job_id, _ = _following(home, service)
    home.step()
    for percent in range(6):
        service.once(word(f"running {percent}%"), on="retrieve")
        home.step()
    warnings = [each for each in home.events(job_id) if each["level"] == "warn"]
    assert len(warnings) == 1
    assert home.run(job_id).quiet_looks == 6


def test_second_metrics_of_a_step_are_kept(home, service):
    job_id, remote_id = _following(home, service)
    service._events[remote_id] += [
        event(50, remote_id, "Step 1", step=1, train_loss=0.5),
        event(51, remote_id, "Step 1, validation", step=1, valid_loss=0.7),
    ]
    home.step()
    told = {each["message"]: each["type"] for each in home.events(job_id)}
    assert (told["Step 1"], told["Step 1, validation"]) == ("metrics", "message")


def test_key_is_masked_before_words_are_cut(home, service):
    said = "x" * 490 + KEY
    service.once(lambda exchange: exchange.send(error(400, "bad", said)), on="create")
    job_id = home.create()
    home.step_until(job_id, "done")
    assert home.job(job_id)["error"]["message"].endswith("x***")


def test_key_is_masked_in_every_text(home, service):
    job_id, remote_id = _following(home, service)
    service._events[remote_id].append(event(50, remote_id, f"I know {KEY}"))
    failure = {"code": KEY, "message": f"bad {KEY}", "param": KEY}
    service.once(answer_with(status="failed", error=failure), on="retrieve")
    home.step_until(job_id, "done")
    assert home.job(job_id)["error"]["message"] == "bad ***"
    assert KEY not in str([home.events(job_id), home.job(job_id), home.run(job_id)])


@pytest.mark.parametrize("header", ["Mon, 01 Jan 99999999999 00:00:00 GMT", "9" * 400])
def test_rest_that_is_no_time_is_a_failure_like_others(home, service, header):
    service.once(acts.refuse(429, retry_after=header), on="upload")
    job_id = home.create()
    home.step()
    assert home.run(job_id).failures == 1


def test_answer_in_a_code_that_makes_no_text_is_read_as_what_it_has_to_be(home, service):
    def strange(exchange):
        door = exchange.handler
        door.send_response(400)
        door.send_header("content-type", "text/plain; charset=hex")
        door.send_header("content-length", "4")
        door.end_headers()
        exchange.write(b"zzzz")

    service.once(strange, on="upload")
    job_id = home.create()
    home.step()
    assert home.job(job_id)["error"]["code"] == "provider_answered_400"
