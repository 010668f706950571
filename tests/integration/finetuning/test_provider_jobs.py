"""A job at a provider from its creation to its model, and what its owner does meanwhile."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from finetuning_room import KEYS, PROJECT
from provider_room import JOBS, MODEL, ROWS
from sqlalchemy import text

from services.finetuning import api as finetuning_api
from services.finetuning.bootstrap import process_providers
from services.finetuning.provider.life import end_run
from shared.context import Context
from shared.errors import Invalid
from shared.ids import Project
from shared.spine.deliveries import hasten
from shared.testing import upstream as acts
from shared.testing.provider.protocol import error


def test_job_ends_with_the_model_of_its_provider(home, service):
    job_id = home.create(suffix="mine", seed=7)
    assert home.job(job_id)["status"] == "queued"
    home.step_until(job_id, "done")
    job = home.job(job_id)
    (remote,) = service.jobs.values()
    assert job["status"] == "succeeded"
    assert job["model"] == MODEL
    assert job["fine_tuned_model"] == f"sim/{remote['fine_tuned_model']}"
    assert job["trained_tokens"] == 1234
    assert job["hyperparameters"]["learning_rate_multiplier"] == 1.8
    assert job["finished_at"] is not None
    (fact,) = home.emitted("job.succeeded.v1")
    assert fact["model_id"] == job["fine_tuned_model"]


def test_provider_is_asked_for_what_was_asked_for_here(home, service):
    numbers = {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": 0.5}
    method = {"type": "supervised", "supervised": {"hyperparameters": numbers}}
    job_id = home.create(suffix="mine", seed=7, method=method, metadata={"mine": "private"})
    home.step_until(job_id, "following")
    (create,) = service.calls("create")
    sent = dict(create.body)
    assert sent.pop("training_file")
    assert sent == {
        "model": "base-1",
        "suffix": "mine",
        "seed": 7,
        "metadata": {"perpetune_job": job_id},
        "method": {
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 2, "learning_rate_multiplier": 0.5}},
        },
    }


def test_rows_are_sent_once_and_removed_at_the_end(home, service):
    job_id = home.create(validation_file=home.upload(ROWS[:3]))
    home.step_until(job_id, "following")
    assert sorted(name for name, _ in service.files.values()) == [
        f"{job_id}.training.jsonl",
        f"{job_id}.validation.jsonl",
    ]
    assert [rows.count(b"\n") for _, rows in service.files.values()] == [12, 3]
    home.step_until(job_id, "done")
    assert service.files == {}
    assert len(service.calls("upload")) == 2


def test_events_and_checkpoints_are_shown_once_and_in_order(home, service):
    service.stages = ("running", "running", "succeeded")
    job_id = home.create()
    home.step_until(job_id, "done")
    (remote_id,) = service.jobs
    told = [message for message in home.messages(job_id) if not message.startswith("Vali")]
    assert told == [
        f"Created fine-tuning job: {job_id}",
        "Files validated, handing the job to 'sim'",
        f"The provider 'sim' took the job as {remote_id}",
        f"Created fine-tuning job: {remote_id}",
        "The job is running",
        "The job is running",
        "The job is succeeded",
        "Step 1/3",
        "Step 2/3",
        "Step 3/3",
        f"New fine-tuned model created: {home.job(job_id)['fine_tuned_model']}",
        "The job has successfully completed",
    ]
    metrics = [event for event in home.events(job_id) if event["type"] == "metrics"]
    assert [event["data"]["step"] for event in metrics] == [1, 2, 3]
    (checkpoint,) = home.client.get(f"{JOBS}/{job_id}/checkpoints").json()["data"]
    assert checkpoint["fine_tuned_model_checkpoint"] == f"sim/ft:{remote_id}:ckpt-step-2"


def test_result_file_can_be_downloaded(home):
    job_id = home.create()
    home.step_until(job_id, "done")
    while home.due("ingestion%"):
        home.ring("ingestion")
    (file_id,) = home.job(job_id)["result_files"]
    content = home.client.get(f"/v1/files/{file_id}/content").text
    assert content.splitlines()[:2] == ["step,train_loss", "1,1.0"]


@pytest.mark.parametrize("model", ["sim/another", "sim/ft:base-1:of-somebody::12345678"])
def test_model_that_the_provider_may_not_train_is_unknown(home, service, model):
    answer = home.client.post(JOBS, json={"model": model, "training_file": home.upload()})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert service.calls() == []


def test_unknown_provider_is_an_unknown_model(home):
    answer = home.client.post(JOBS, json={"model": "else/base-1", "training_file": home.upload()})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_own_model_is_trained_further_where_it_was_made(home, service):
    first = home.create()
    home.step_until(first, "done")
    model = home.job(first)["fine_tuned_model"]
    second = home.create(model=model)
    home.step_until(second, "done")
    assert service.calls("create")[1].body["model"] == model.removeprefix("sim/")
    assert home.job(second)["status"] == "succeeded"


def test_model_of_another_project_is_unknown(home):
    first = home.create()
    home.step_until(first, "done")
    rival = {"authorization": f"Bearer {KEYS['other']}"}
    data = {"purpose": "fine-tune"}
    file = home.client.post(
        "/v1/files", data=data, files={"file": ("a", b"{}")}, headers=rival
    ).json()["id"]
    body = {"model": home.job(first)["fine_tuned_model"], "training_file": file}
    assert home.client.post(JOBS, json=body, headers=rival).status_code == 404


def test_run_is_seen_by_its_own_project_alone(home, service):
    job_id = home.create()
    service.once(acts.refuse(429, retry_after=60), on="list_files")
    home.step()
    count = text("SELECT count(*) FROM finetuning.provider_runs")
    rival = Context.root(Project("rival"), "test")
    for context, seen in ((PROJECT, 1), (rival, 0)):
        with home.units.open(context) as uow:
            assert uow.session.execute(count).scalar_one() == seen
    with home.units.open(rival) as uow:
        end_run(uow, job_id)
        hasten(uow.session, "finetuning.continue_job", job_id)
    assert home.run(job_id).phase == "uploading"
    (step,) = home.due("finetuning.continue_job")
    assert step.due > 50


def test_dataset_of_a_provider_is_checked_and_not_counted(home):
    home.create(validation_file=home.upload(ROWS[:3]))
    (dataset,) = home.rows(
        "SELECT state, base, training_rows, training_tokens, token_report FROM ingestion.datasets"
    )
    assert tuple(dataset) == ("sealed", MODEL, 12, 0, None)
    findings = home.rows("SELECT rule FROM ingestion.findings WHERE subject LIKE 'ds%'")
    assert {row.rule for row in findings} == {"train_validation_leak"}


def test_gateway_with_unfit_providers_does_not_start(home, tmp_path):
    file = tmp_path / "secrets" / "providers.toml"
    file.chmod(0o644)
    process_providers.cache_clear()
    app = FastAPI(lifespan=finetuning_api.lifespan)
    with pytest.raises(Invalid, match="mode 0600"), TestClient(app):
        pass


def test_unfit_rows_fail_the_job_before_anything_is_sent(home, service):
    broken = [*ROWS[:11], {"messages": [{"role": "nobody", "content": "x"}]}]
    answer = home.client.post(JOBS, json={"model": MODEL, "training_file": home.upload(broken)})
    while home.due("ingestion%"):
        home.ring("ingestion")
    home.ring()
    job = home.job(answer.json()["id"])
    assert (job["status"], job["error"]["code"]) == ("failed", "invalid_training_file")
    assert "Line 12" in job["error"]["message"]
    assert service.calls() == []


def test_cancellation_reaches_the_provider_at_once(home, service):
    service.stages = ("running",)
    job_id = home.create()
    home.step_until(job_id, "following")
    home.step(3)
    assert home.client.post(f"{JOBS}/{job_id}/cancel").json()["status"] == "cancelled"
    (step,) = home.due("finetuning.continue_job")
    assert step.due <= 0
    home.step_until(job_id, "done")
    (remote,) = service.jobs.values()
    assert remote["status"] == "cancelled"
    assert service.files == {}
    assert home.job(job_id)["status"] == "cancelled"
    assert home.messages(job_id)[-1] == "The job was cancelled"


def test_cancelled_before_it_was_sent_is_never_sent(home, service):
    job_id = home.create()
    home.client.post(f"{JOBS}/{job_id}/cancel")
    home.step_until(job_id, "done")
    assert service.calls("create") == service.calls("upload") == []


def test_cancelled_after_the_provider_was_done_says_where_the_model_is(home, service):
    service.stages = ("running",)
    job_id = home.create()
    home.step_until(job_id, "following")
    home.step()
    service.go_on("succeeded")
    home.client.post(f"{JOBS}/{job_id}/cancel")
    (remote_id,) = service.jobs
    service.once(lambda exchange: exchange.send(_finish(service, remote_id)), on="cancel")
    home.step_until(job_id, "done")
    assert home.job(job_id)["status"] == "cancelled"
    assert "had finished before; its model ft:base-1" in home.messages(job_id)[-1]


def _finish(service, remote_id):
    service._enter(service.jobs[remote_id], "succeeded")
    return error(400, "invalid_state")


def test_pause_and_resumption_are_the_providers(home, service):
    service.stages = ("running",)
    job_id = home.create()
    home.step_until(job_id, "following")
    home.step()
    assert home.client.post(f"{JOBS}/{job_id}/pause").json()["status"] == "running"
    home.step(2)
    assert home.job(job_id)["status"] == "paused"
    home.client.post(f"{JOBS}/{job_id}/resume")
    home.step(2)
    assert home.job(job_id)["status"] == "queued"
    service.go_on("running", "succeeded")
    home.step()
    assert home.job(job_id)["status"] == "running"
    home.step_until(job_id, "done")
    assert home.job(job_id)["status"] == "succeeded"


def test_provider_that_cannot_pause_goes_on_and_says_so(home, service):
    service.stages = ("running",)
    job_id = home.create()
    home.step_until(job_id, "following")
    home.step()
    service.once(acts.not_found, on="pause")
    home.client.post(f"{JOBS}/{job_id}/pause")
    home.step(2)
    assert home.job(job_id)["status"] == "running"
    assert any("was not paused" in message for message in home.messages(job_id))


def test_failure_at_the_provider_is_the_failure_of_the_job(home, service):
    service.stages = ("running", "failed")
    job_id = home.create()
    home.step_until(job_id, "done")
    job = home.job(job_id)
    assert (job["status"], job["error"]["code"], job["error"]["message"]) == (
        "failed",
        "training_failed",
        "diverged",
    )
    assert service.files == {}


def test_cancelled_at_the_provider_is_cancelled_here(home, service):
    service.stages = ("running", "cancelled")
    job_id = home.create()
    home.step_until(job_id, "done")
    assert home.job(job_id)["status"] == "cancelled"
    assert len(home.emitted("job.cancelled.v1")) == 1


def test_preferences_are_sent_with_their_method(home, service):
    row = {
        "input": {"messages": [{"role": "user", "content": "x"}]},
        "preferred_output": [{"role": "assistant", "content": "y"}],
        "non_preferred_output": [{"role": "assistant", "content": "z"}],
    }
    rows = [row | {"input": {"messages": [{"role": "user", "content": f"{n}"}]}} for n in range(10)]
    method = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}}
    job_id = home.create(method=method, training_file=home.upload(rows))
    home.step_until(job_id, "done")
    (create,) = service.calls("create")
    assert create.body["method"] == {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}}
    assert home.job(job_id)["method"]["dpo"]["hyperparameters"]["beta"] == 0.2
