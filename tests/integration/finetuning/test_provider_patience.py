"""How long a failing provider is waited for, and what is kept of a job when it is not any more."""

from __future__ import annotations

import time

import pytest
from provider_room import JOBS, provider_room

from services.finetuning import bootstrap
from shared.testing import upstream as acts
from shared.testing.provider import answer_with


def _following(home, service):
    service.stages = ("running",)
    job_id = home.create()
    home.step_until(job_id, "following")
    home.step()
    return job_id


def _paused(home, service):
    job_id = _following(home, service)
    home.client.post(f"{JOBS}/{job_id}/pause")
    home.step(2)
    assert home.job(job_id)["status"] == "paused"
    return job_id


def _remote_status(service):
    (remote,) = service.jobs.values()
    return remote["status"]


def test_paused_job_fails_as_its_provider_says(home, service):
    job_id = _paused(home, service)
    service.go_on("failed")
    home.step_until(job_id, "done")
    assert home.job(job_id)["error"]["message"] == "diverged"


def test_paused_job_that_is_refused_fails_and_is_stopped(home, service):
    job_id = _paused(home, service)
    service.once(acts.refuse(403), on="retrieve")
    home.step()
    assert home.job(job_id)["status"] == "failed"
    home.step_until(job_id, "done")
    assert _remote_status(service) == "cancelled"


def test_unfit_configuration_of_a_worker_is_waited_for(home, service, tmp_path):
    job_id = _following(home, service)
    file = tmp_path / "secrets" / "providers.toml"
    file.chmod(0o644)
    bootstrap.process_providers.cache_clear()
    home.step(3)
    assert home.job(job_id)["status"] == "running"
    told = home.messages(job_id)[-1]
    assert "operator has to mend providers.toml" in told
    assert str(tmp_path) not in told
    file.chmod(0o600)
    service.go_on("succeeded")
    home.step_until(job_id, "done")
    assert home.job(job_id)["status"] == "succeeded"


def test_finished_model_outlives_its_metrics(home, service):
    service.always(acts.refuse(403), on="content")
    job_id = home.create()
    home.step_until(job_id, "done")
    assert home.job(job_id)["status"] == "succeeded"
    assert "no result file" in home.messages(job_id)[-1]


def test_finished_model_outlives_metrics_that_are_too_large(
    database, tmp_path, service, monkeypatch
):
    with provider_room(
        database, tmp_path, service, monkeypatch, provider_missing_seconds=1
    ) as home:
        service.always(acts.send_raw(b"1,0.5\n" * (3 << 20)), on="content")
        job_id = home.create()
        home.step_until(job_id, "collecting")
        home.step()
        time.sleep(0.6)
        home.step_until(job_id, "done")
        assert home.job(job_id)["status"] == "succeeded"


def test_model_that_the_key_may_not_see_is_waited_for(home, service):
    service.once(acts.refuse(403), acts.refuse(403), on="model")
    job_id = home.create()
    home.step_until(job_id, "done")
    assert home.job(job_id)["status"] == "succeeded"


@pytest.mark.parametrize("operation", ["model", "retrieve"])
def test_outage_does_not_count_as_missing(database, tmp_path, service, monkeypatch, operation):
    with provider_room(
        database, tmp_path, service, monkeypatch, provider_missing_seconds=1
    ) as home:
        job_id = home.create()
        home.step_until(job_id, "collecting" if operation == "model" else "following")
        service.once(acts.refuse(503), acts.not_found, on=operation)
        home.step()
        time.sleep(1.1)
        home.step_until(job_id, "done")
        assert home.job(job_id)["status"] == "succeeded"


def test_changing_failures_are_not_waited_for_longer(database, tmp_path, service, monkeypatch):
    with provider_room(
        database, tmp_path, service, monkeypatch, provider_patience_seconds=1
    ) as home:
        job_id = _following(home, service)
        service.once(acts.refuse(503), acts.not_found, acts.refuse(503), on="retrieve")
        home.step(2)
        time.sleep(1.1)
        home.step()
        assert home.job(job_id)["status"] == "failed"


def test_job_cancelled_late_in_an_outage_is_stopped_there(database, tmp_path, service, monkeypatch):
    with provider_room(
        database, tmp_path, service, monkeypatch, provider_patience_seconds=1
    ) as home:
        job_id = _following(home, service)
        service.once(acts.refuse(503), on="retrieve")
        home.step()
        home.client.post(f"{JOBS}/{job_id}/cancel")
        time.sleep(1.1)
        service.once(acts.refuse(503), on="cancel")
        home.step_until(job_id, "done")
        assert _remote_status(service) == "cancelled"


def test_job_cancelled_while_a_look_is_refused_is_stopped_there(home, service):
    job_id = _following(home, service)

    def cancelled_meanwhile(exchange):
        home.client.post(f"{JOBS}/{job_id}/cancel")
        acts.refuse(403)(exchange)

    service.once(cancelled_meanwhile, on="retrieve")
    home.step_until(job_id, "done")
    assert _remote_status(service) == "cancelled"


def test_job_is_followed_while_its_pause_is_not_heard(home, service):
    job_id = _following(home, service)
    service.always(acts.refuse(503), on="pause")
    home.client.post(f"{JOBS}/{job_id}/pause")
    home.step(3)
    assert home.run(job_id).wish == "pause"
    (step,) = home.due("finetuning.continue_job")
    assert step.due > 0.05
    service.go_on("succeeded")
    home.step_until(job_id, "done")
    assert home.job(job_id)["status"] == "succeeded"


@pytest.mark.parametrize("status", [501, 503])
def test_pause_that_is_given_up_costs_nothing(database, tmp_path, service, monkeypatch, status):
    with provider_room(
        database, tmp_path, service, monkeypatch, provider_patience_seconds=1
    ) as home:
        job_id = _following(home, service)
        service.always(acts.refuse(status), on="pause")
        home.client.post(f"{JOBS}/{job_id}/pause")
        home.step()
        time.sleep(1.1)
        home.step()
        assert (home.job(job_id)["status"], home.run(job_id).wish) == ("running", None)
        assert f"was not paused: The provider 'sim' answered {status}" in str(home.messages(job_id))


def test_pause_whose_answer_was_lost_is_not_asked_for_again(home, service):
    job_id = _following(home, service)
    service.once(acts.lose_answer, on="pause")
    home.client.post(f"{JOBS}/{job_id}/pause")
    home.step(3)
    assert home.job(job_id)["status"] == "paused"
    assert len(service.calls("pause")) == 1
    assert "was not paused" not in str(home.messages(job_id))


def test_paused_job_has_no_estimated_end(home, service):
    job_id = _following(home, service)
    service.once(answer_with(estimated_finish=1_900_000_000), on="retrieve")
    home.step()
    assert home.job(job_id)["estimated_finish"] == 1_900_000_000
    home.client.post(f"{JOBS}/{job_id}/pause")
    home.step(2)
    job = home.job(job_id)
    assert (job["status"], job["estimated_finish"]) == ("paused", None)
