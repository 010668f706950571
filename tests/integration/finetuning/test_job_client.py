"""The unmodified `openai` client, strict about every field, against the room's API."""

from __future__ import annotations

import openai
import pytest
from finetuning_room import BASE, KEYS


@pytest.fixture
def strict(served):
    with openai.OpenAI(
        base_url=served, api_key=KEYS["owner"], max_retries=2, _strict_response_validation=True
    ) as client:
        yield client


@pytest.fixture
def file_id(room):
    return room.add_file()


def test_life_of_a_job_is_valid_to_the_strict_client(strict, room, file_id):
    jobs = strict.fine_tuning.jobs
    job = jobs.create(
        model=BASE,
        training_file=file_id,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
        metadata={"team": "a"},
    )
    assert (job.status, job.method.type, job.fine_tuned_model) == (
        "validating_files",
        "supervised",
        None,
    )
    assert job.method.supervised.hyperparameters.n_epochs == 2
    assert job.method.supervised.hyperparameters.batch_size == "auto"
    room.queue(job.id)
    job = jobs.retrieve(job.id)
    assert (job.status, job.hyperparameters.batch_size) == ("queued", 4)
    assert [listed.id for listed in jobs.list(metadata={"team": "a"})] == [job.id]
    assert list(jobs.list(metadata={"team": "b"})) == []
    assert list(jobs.checkpoints.list(job.id)) == []
    assert jobs.cancel(job.id).status == "cancelled"


def test_auto_paging_yields_each_event_once(strict, room, file_id):
    job = strict.fine_tuning.jobs.create(model=BASE, training_file=file_id)
    room.queue(job.id)
    paged = [event.id for event in strict.fine_tuning.jobs.list_events(job.id, limit=2)]
    whole = strict.fine_tuning.jobs.list_events(job.id, limit=100).data
    assert paged == [event.id for event in whole]
    assert len(set(paged)) == len(paged) > 4


def test_auto_paging_yields_each_job_once(strict, file_id):
    made = {strict.fine_tuning.jobs.create(model=BASE, training_file=file_id).id for _ in range(3)}
    listed = [job.id for job in strict.fine_tuning.jobs.list(limit=1)]
    assert len(listed) == 3
    assert set(listed) == made


def test_refusals_are_the_clients_own_errors(strict, file_id):
    jobs = strict.fine_tuning.jobs
    with pytest.raises(openai.NotFoundError) as unknown_model:
        jobs.create(model="gpt-9", training_file=file_id)
    assert unknown_model.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as unknown_file:
        jobs.create(model=BASE, training_file="file-none")
    assert unknown_file.value.param == "training_file"
    with pytest.raises(openai.NotFoundError) as unknown_job:
        jobs.retrieve("ftjob-none")
    assert unknown_job.value.code == "job_not_found"
    assert unknown_job.value.request_id


def test_cancel_of_an_ended_job_is_sent_once(strict, file_id):
    jobs = strict.fine_tuning.jobs
    job = jobs.create(model=BASE, training_file=file_id)
    jobs.cancel(job.id)
    with pytest.raises(openai.BadRequestError) as refused:
        jobs.cancel(job.id)
    # The client numbers its repetitions; the refused request was the first and only one.
    assert refused.value.response.request.headers["x-stainless-retry-count"] == "0"


def test_headers_of_the_raw_answer_name_the_request(strict, file_id):
    raw = strict.fine_tuning.jobs.with_raw_response.create(model=BASE, training_file=file_id)
    assert raw.headers["x-request-id"].startswith("req_")
    assert int(raw.headers["openai-processing-ms"]) >= 0
