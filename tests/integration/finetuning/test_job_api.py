"""The REST door of fine-tuning jobs, each answer and each refusal."""

from __future__ import annotations

import pytest
from finetuning_room import BASE, KEYS

JOBS = "/v1/fine_tuning/jobs"


@pytest.fixture
def file_id(room):
    return room.add_file()


def _create(client, file_id, **fields):
    return client.post(JOBS, json={"model": BASE, "training_file": file_id, **fields})


def test_created_job_has_all_keys_and_asks_for_its_dataset(client, room, file_id):
    answer = _create(client, file_id, suffix="mine", seed=7, metadata={"a": "b"})
    assert answer.status_code == 200, answer.text
    job = answer.json()
    auto = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
    created_at = job.pop("created_at")
    assert created_at > 0
    job_id = job.pop("id")
    assert job_id.startswith("ftjob-")
    assert job == {
        "object": "fine_tuning.job",
        "error": None,
        "estimated_finish": None,
        "fine_tuned_model": None,
        "finished_at": None,
        "hyperparameters": auto,
        "integrations": [],
        "metadata": {"a": "b"},
        "method": {"type": "supervised", "supervised": {"hyperparameters": auto}},
        "model": BASE,
        "organization_id": "acme",
        "result_files": [],
        "seed": 7,
        "status": "validating_files",
        "trained_tokens": None,
        "training_file": file_id,
        "user_provided_suffix": "mine",
        "validation_file": None,
    }
    (command,) = room.emitted("dataset.seal.v1")
    assert command["requester"] == {"kind": "job", "id": job_id}
    assert command["training"] == [{"digest": "0" * 64, "file_id": file_id, "max_rows": None}]
    assert room.rows("SELECT subject FROM spine.audit_entries WHERE action = 'job.created'") == [
        (job_id,)
    ]


def test_job_is_retrieved_and_listed_newest_first_with_cursor(client, file_id):
    ids = [_create(client, file_id).json()["id"] for _ in range(3)]
    assert client.get(f"{JOBS}/{ids[0]}").json()["id"] == ids[0]
    first = client.get(JOBS, params={"limit": 2}).json()
    assert [job["id"] for job in first["data"]] == ids[:0:-1]
    assert first["has_more"]
    rest = client.get(JOBS, params={"limit": 2, "after": first["last_id"]}).json()
    assert [job["id"] for job in rest["data"]] == [ids[0]]
    assert not rest["has_more"]


def test_list_is_filtered_by_metadata(client, file_id):
    plain = _create(client, file_id).json()["id"]
    marked = _create(client, file_id, metadata={"a": "b", "c": ""}).json()["id"]

    def listed(query):
        return [job["id"] for job in client.get(f"{JOBS}?{query}").json()["data"]]

    assert listed("metadata[a]=b") == [marked]
    assert listed("metadata[a]=b&metadata[c]=") == [marked]
    assert listed("metadata[a]=x") == []
    assert listed("metadata=null") == [plain]


def test_another_project_sees_nothing(client, file_id):
    job_id = _create(client, file_id).json()["id"]
    rival = {"authorization": f"Bearer {KEYS['other']}"}
    assert client.get(JOBS, headers=rival).json()["data"] == []
    for path in ("", "/events", "/checkpoints"):
        assert client.get(f"{JOBS}/{job_id}{path}", headers=rival).status_code == 404
    assert client.post(f"{JOBS}/{job_id}/cancel", headers=rival).status_code == 404
    refused = client.post(JOBS, headers=rival, json={"model": BASE, "training_file": file_id})
    assert refused.json()["error"]["code"] == "file_not_found"


def test_explicit_hyperparameters_are_echoed_from_either_place(client, file_id):
    numbers = {"n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 1.5}
    method = {"type": "supervised", "supervised": {"hyperparameters": numbers}}
    for fields in ({"method": method}, {"hyperparameters": numbers}):
        job = _create(client, file_id, **fields).json()
        assert job["hyperparameters"] == numbers
        assert job["method"] == method


def test_auto_is_replaced_by_numbers_with_reasons_once_the_dataset_is_sealed(client, room, file_id):
    job_id = _create(client, file_id).json()["id"]
    room.queue(job_id)
    job = client.get(f"{JOBS}/{job_id}").json()
    assert job["status"] == "queued"
    assert job["hyperparameters"] == {
        "n_epochs": 3,
        "batch_size": 4,
        "learning_rate_multiplier": 1.5,
    }
    messages = [event["message"] for event in client.get(f"{JOBS}/{job_id}/events").json()["data"]]
    assert messages[-3:] == [
        "Files validated, moving job to queued state",
        f"Validating training file: {file_id}",
        f"Created fine-tuning job: {job_id}",
    ]
    assert any(message.startswith("n_epochs=3 because") for message in messages)


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"model": "gpt-9"}, 404, "model_not_found", "model"),
        ({"model": "ft:gone:acme::12345678"}, 404, "model_not_found", "model"),
        ({"model": None}, 400, "invalid_value", "model"),
        ({"training_file": "file-none"}, 400, "file_not_found", "training_file"),
        ({"validation_file": "file-none"}, 400, "file_not_found", "validation_file"),
        (
            {"method": {"type": "reinforcement", "reinforcement": {"grader": {}}}},
            400,
            "unsupported_method",
            "method.type",
        ),
        ({"method": {"type": "magic"}}, 400, "invalid_method", "method.type"),
        (
            {"method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 51}}}},
            400,
            "invalid_value",
            "method.supervised.hyperparameters.n_epochs",
        ),
        (
            {"hyperparameters": {"batch_size": 0}},
            400,
            "invalid_value",
            "hyperparameters.batch_size",
        ),
        (
            {"hyperparameters": {"learning_rate_multiplier": 0}},
            400,
            "invalid_value",
            "hyperparameters.learning_rate_multiplier",
        ),
        ({"hyperparameters": {"epochs": 1}}, 400, "invalid_value", "hyperparameters.epochs"),
        ({"suffix": "x" * 65}, 400, "invalid_suffix", "suffix"),
        ({"suffix": "No Good"}, 400, "invalid_suffix", "suffix"),
        ({"seed": -1}, 400, "invalid_seed", "seed"),
        ({"seed": 2**31}, 400, "invalid_seed", "seed"),
        ({"metadata": {"k" * 65: "v"}}, 400, "invalid_metadata", "metadata"),
        ({"metadata": {"k": "v" * 513}}, 400, "invalid_metadata", "metadata.k"),
        ({"integrations": [{"type": "wandb"}]}, 400, "unsupported_integration", "integrations"),
        ({"colour": "blue"}, 400, "invalid_value", "colour"),
    ],
)
def test_bad_request_is_refused_by_field_and_leaves_nothing(
    client, room, file_id, fields, status, code, param
):
    body = {"model": BASE, "training_file": file_id, **fields}
    answer = client.post(JOBS, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param), error
    assert error["message"]
    assert room.rows("SELECT 1 FROM finetuning.jobs") == []
    assert room.rows("SELECT 1 FROM spine.deliveries") == []


def test_file_with_another_purpose_is_refused(client, room):
    answer = _create(client, room.add_file(purpose="batch"))
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "wrong_file_purpose"
    assert answer.json()["error"]["param"] == "training_file"


def test_key_without_the_scope_is_refused(client, file_id):
    reader = {"authorization": f"Bearer {KEYS['reader']}"}
    body = {"model": BASE, "training_file": file_id}
    assert client.post(JOBS, json=body, headers=reader).status_code == 403
    assert client.get(JOBS, headers=reader).status_code == 200
    assert client.get(JOBS, headers={"authorization": ""}).status_code == 401


@pytest.mark.parametrize("path", ["", "/events", "/checkpoints"])
def test_unknown_job_is_not_found(client, path):
    answer = client.get(f"{JOBS}/ftjob-none{path}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "job_not_found"


@pytest.mark.parametrize("path", ["", "/{job}/events", "/{job}/checkpoints"])
def test_unknown_cursor_and_bad_limit_are_refused(client, file_id, path):
    url = JOBS + path.format(job=_create(client, file_id).json()["id"])
    unknown = client.get(url, params={"after": "none"})
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "after")
    for limit in (0, 101):
        assert client.get(url, params={"limit": limit}).json()["error"]["param"] == "limit"


def test_cancel_ends_a_waiting_job_and_withdraws_its_lease(client, room, file_id):
    job_id = _create(client, file_id).json()["id"]
    room.queue(job_id)
    assert room.rows("SELECT subject FROM spine.leases") == [(job_id,)]
    answer = client.post(
        f"{JOBS}/{job_id}/cancel", content=b"", headers={"content-type": "application/json"}
    )
    assert answer.status_code == 200
    assert answer.json()["status"] == "cancelled"
    assert answer.json()["finished_at"] is not None
    assert room.rows("SELECT subject FROM spine.leases") == []
    assert {message["job_id"] for message in room.emitted("job.cancelled.v1")} == {job_id}


def test_cancel_of_an_ended_job_is_refused(client, file_id):
    job_id = _create(client, file_id).json()["id"]
    assert client.post(f"{JOBS}/{job_id}/cancel").status_code == 200
    answer = client.post(f"{JOBS}/{job_id}/cancel")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "job_not_cancellable"
    assert "cancelled" in answer.json()["error"]["message"]


def test_repeated_request_gets_the_first_job(client, file_id):
    again = {"x-stainless-retry-count": "1"}
    body = {"model": BASE, "training_file": file_id, "suffix": "one"}
    first = client.post(JOBS, json=body).json()["id"]
    assert client.post(JOBS, json=body, headers=again).json()["id"] == first
    # The same request without the mark is a second job on purpose.
    assert client.post(JOBS, json=body).json()["id"] != first
    # Another body never was sent, whatever the client says.
    other = {**body, "suffix": "two"}
    assert client.post(JOBS, json=other, headers=again).json()["id"] != first


def test_repeated_request_after_the_window_makes_a_job(client, room, file_id):
    body = {"model": BASE, "training_file": file_id}
    first = client.post(JOBS, json=body).json()["id"]
    room.execute("UPDATE finetuning.jobs SET created_at = now() - interval '1 hour'")
    again = client.post(JOBS, json=body, headers={"x-stainless-retry-count": "2"})
    assert again.json()["id"] != first


def test_validation_file_that_is_the_training_file_warns(client, file_id):
    job_id = _create(client, file_id, validation_file=file_id).json()["id"]
    newest = client.get(f"{JOBS}/{job_id}/events", params={"limit": 1}).json()["data"][0]
    assert newest["level"] == "warn"
    assert "training file" in newest["message"]
