"""What the room does when it hears about datasets and cycles."""

from __future__ import annotations

import json

import pytest
from finetuning_room import BASE, PROJECT
from sqlalchemy import text

from services.finetuning import tasks
from services.finetuning.service.ending import cancel_job
from shared.contracts.finetuning import Hyperparameters, SubmitJob
from shared.contracts.ingestion import DatasetRefused, Requester
from shared.errors import Invalid, Missing
from shared.task import registered_tasks

JOBS = "/v1/fine_tuning/jobs"
COMMAND = SubmitJob(
    cycle_id="cyc_1",
    workload_id="wl_1",
    workload_name="Listing Extractor",
    dataset_id="ds_9",
    model=BASE,
)


@pytest.fixture
def job_id(client, room):
    body = {"model": BASE, "training_file": room.add_file()}
    return client.post(JOBS, json=body).json()["id"]


@pytest.fixture
def dataset(room):
    room.execute(
        "INSERT INTO ingestion.datasets (id, project, state, base, requester, sources,"
        " training_digest, training_rows, training_tokens)"
        f" VALUES ('ds_9', 'acme', 'sealed', '{BASE}', 'cycle:cyc_1', '[]', 'd', 100, 9000)"
    )


def _refusal(job_id: str) -> DatasetRefused:
    return DatasetRefused(
        dataset_id="ds_1",
        requester=Requester(kind="job", id=job_id),
        code="invalid_training_file",
        message="Line 7 is not JSON.",
        param="training_file",
        line=7,
    )


def test_tasks_carry_the_names_of_the_catalogue():
    assert {
        "finetuning.accept_dataset",
        "finetuning.refuse_dataset",
        "finetuning.submit_job",
    } <= set(registered_tasks())


def test_sealed_dataset_queues_its_job_once(client, room, job_id):
    for _ in range(2):
        with room.units.open(PROJECT) as uow:
            tasks.accept_dataset(uow, room.sealed(job_id, truncated_rows=3))
    assert client.get(f"{JOBS}/{job_id}").json()["status"] == "queued"
    events = client.get(f"{JOBS}/{job_id}/events").json()["data"]
    assert sum("queued" in event["message"] for event in events) == 1
    assert [event["level"] for event in events].count("warn") == 1
    assert room.rows("SELECT kind, subject FROM spine.leases") == [("finetuning.job", job_id)]


def test_sealed_dataset_of_a_cycle_is_not_ours(room):
    fact = room.sealed("x").model_copy(update={"requester": Requester(kind="cycle", id="cyc_1")})
    with room.units.open(PROJECT) as uow:
        tasks.accept_dataset(uow, fact)
    assert room.rows("SELECT 1 FROM spine.leases") == []


def test_sealed_dataset_of_a_cancelled_job_changes_nothing(client, room, job_id):
    with room.units.open(PROJECT) as uow:
        cancel_job(uow, job_id)
        tasks.accept_dataset(uow, room.sealed(job_id))
    assert client.get(f"{JOBS}/{job_id}").json()["status"] == "cancelled"
    assert room.rows("SELECT 1 FROM spine.leases") == []


def test_sealed_dataset_of_an_unknown_job_is_due_again(room):
    with pytest.raises(Missing), room.units.open(PROJECT) as uow:
        tasks.accept_dataset(uow, room.sealed("ftjob-none"))


def test_refused_dataset_fails_its_job_with_code_message_and_param(client, room, job_id):
    for _ in range(2):
        with room.units.open(PROJECT) as uow:
            tasks.refuse_dataset(uow, _refusal(job_id))
    job = client.get(f"{JOBS}/{job_id}").json()
    assert job["status"] == "failed"
    assert job["error"] == {
        "code": "invalid_training_file",
        "message": "Line 7 is not JSON.",
        "param": "training_file",
    }
    assert job["finished_at"] is not None
    assert job["fine_tuned_model"] is None
    newest = client.get(f"{JOBS}/{job_id}/events").json()["data"][0]
    assert newest["level"] == "error"
    published = room.rows("SELECT envelope FROM spine.events WHERE type = 'job.failed.v1'")
    assert len(published) == 1
    assert published[0].envelope["data"]["code"] == "invalid_training_file"


def test_command_of_a_cycle_makes_one_queued_job(client, room, dataset):
    for _ in range(2):
        with room.units.open(PROJECT) as uow:
            tasks.submit_job(uow, COMMAND)
    (job,) = client.get(JOBS).json()["data"]
    assert (job["status"], job["training_file"], job["user_provided_suffix"]) == (
        "queued",
        "ds_9",
        "listing-extractor",
    )
    assert job["hyperparameters"]["n_epochs"] == 3
    assert room.rows("SELECT subject FROM spine.leases") == [(job["id"],)]
    assert {message["cycle_id"] for message in room.emitted("job.created.v1")} == {"cyc_1"}


def test_command_of_a_cycle_without_its_dataset_is_due_again(room):
    with pytest.raises(Missing) as missing, room.units.open(PROJECT) as uow:
        tasks.submit_job(uow, COMMAND)
    assert missing.value.code == "dataset_not_found"
    assert room.rows("SELECT 1 FROM finetuning.jobs") == []


def test_command_of_a_cycle_with_an_unknown_model_is_due_again(room, dataset):
    command = COMMAND.model_copy(update={"model": "ft:none"})
    with pytest.raises(Missing) as missing, room.units.open(PROJECT) as uow:
        tasks.submit_job(uow, command)
    assert missing.value.code == "model_not_found"


def test_command_of_a_cycle_out_of_bounds_is_refused(room, dataset):
    command = COMMAND.model_copy(update={"hyperparameters": Hyperparameters(n_epochs=51)})
    with pytest.raises(Invalid), room.units.open(PROJECT) as uow:
        tasks.submit_job(uow, command)


@pytest.mark.parametrize("deleted", [False, True])
def test_own_model_is_trained_further_unless_deleted(client, room, dataset, deleted):
    """The registered row decides; a deleted model is unknown to the API."""
    model = f"ft:{BASE}:acme::12345678"
    with room.units.open(PROJECT) as uow:
        uow.session.execute(
            text(
                "INSERT INTO releases.models (project, model_id, kind, base, parent, gguf_digest,"
                " peft_digest, job_id, dataset_id, created_at, deleted_at) VALUES ('acme', :model,"
                " 'fine_tuned', :base, :base, 'g', 'p', 'ftjob-0', 'ds_0', now(),"
                " CASE WHEN :deleted THEN now() END)"
            ),
            {"model": model, "base": BASE, "deleted": deleted},
        )
    answer = client.post(JOBS, json={"model": model, "training_file": room.add_file()})
    if deleted:
        assert answer.status_code == 404, answer.text
        return
    assert answer.json()["model"] == model
    assert room.rows("SELECT base, parent_peft_digest FROM finetuning.jobs") == [(BASE, "p")]
    (command,) = room.emitted("dataset.seal.v1")
    assert command["base"] == BASE, json.dumps(command)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE finetuning.job_events SET message = 'x'",
        "DELETE FROM finetuning.job_events",
        "DELETE FROM finetuning.jobs",
    ],
)
def test_history_of_a_job_cannot_be_changed(room, job_id, statement):
    from sqlalchemy.exc import ProgrammingError

    with pytest.raises(ProgrammingError):
        room.execute(statement)
