"""Files over the unmodified client, checks and sealing on a real Postgres."""

from __future__ import annotations

import io
import json
from datetime import timedelta

import pytest
from ingestion_room import PROJECT
from sqlalchemy import text

from services.ingestion import repository, sealing, service
from services.ingestion.settings import ingestion_settings
from shared.contracts.ingestion import FileUploaded, Requester, SealDataset, Source

BASE = "smollm2-135m-instruct"


@pytest.fixture
def rows():
    return [
        {
            "messages": [
                {"role": "user", "content": f"Question {number}"},
                {"role": "assistant", "content": f"Answer {number}"},
            ]
        }
        for number in range(20)
    ]


def _jsonl(rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _upload(client, data: bytes, **fields: str):
    return client.post(
        "/v1/files",
        data={"purpose": "fine-tune", **fields},
        files={"file": ("rows.jsonl", io.BytesIO(data))},
    )


def _check(units, file_id: str, blobs) -> None:
    with units.open(PROJECT) as uow:
        row = repository.load_file(uow, file_id)
        service.check_file(
            uow,
            blobs,
            FileUploaded(file_id=file_id, purpose=row.purpose, digest=row.digest, bytes=row.bytes),
        )


def test_a_file_is_stored_listed_read_checked_and_deleted(http_client, units, blobs, rows):
    data = _jsonl(rows)
    created = _upload(
        http_client,
        data,
        **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"},
    )
    assert created.status_code == 200, created.text
    file = created.json()
    assert file["bytes"] == len(data)
    assert file["expires_at"] - file["created_at"] == 3600
    assert file["status"] == "uploaded"
    assert http_client.get(f"/v1/files/{file['id']}/content").content == data
    _check(units, file["id"], blobs)
    report = http_client.get(f"/api/v1/files/{file['id']}/report").json()
    assert (report["gate"], report["rows"]) == ("pass", 20)
    listed = http_client.get("/v1/files", params={"purpose": "fine-tune"}).json()
    assert [item["id"] for item in listed["data"]] == [file["id"]]
    assert http_client.delete(f"/v1/files/{file['id']}").json()["deleted"] is True
    assert http_client.delete(f"/v1/files/{file['id']}").status_code == 404
    with units.open(PROJECT) as uow:
        tasks = uow.session.execute(text("SELECT task FROM spine.deliveries")).scalars().all()
        actions = uow.session.execute(text("SELECT action FROM spine.audit_entries")).scalars()
        assert tasks == ["ingestion.check_file"]
        assert list(actions) == ["file.uploaded", "file.deleted"]


def test_a_file_that_has_expired_is_as_good_as_deleted(http_client, units, rows):
    ages = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    gone, stays = (_upload(http_client, _jsonl(rows), **ages).json()["id"] for _ in range(2))
    with units.open(PROJECT) as uow:
        row = repository.load_file(uow, gone)
        row.expires_at = uow.now - timedelta(seconds=1)
    assert http_client.get(f"/v1/files/{gone}").status_code == 404
    assert http_client.get(f"/v1/files/{gone}/content").status_code == 404
    listed = http_client.get("/v1/files").json()["data"]
    assert [file["id"] for file in listed] == [stays]
    with units.open(PROJECT) as uow:
        published = uow.session.execute(text("SELECT file_id FROM ingestion.files_v1"))
        assert published.scalars().all() == [stays]


def test_pages_yield_each_file_once(http_client, rows):
    ids = [_upload(http_client, _jsonl(rows[:n])).json()["id"] for n in range(1, 6)]
    seen, after = [], None
    while True:
        params = {"limit": 2, **({"after": after} if after else {})}
        page = http_client.get("/v1/files", params=params).json()
        seen += [item["id"] for item in page["data"]]
        if not page["has_more"]:
            break
        after = page["last_id"]
    assert seen == ids[::-1]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": "training"}, "purpose"),
        ({"expires_after[seconds]": "3599"}, "expires_after.seconds"),
        ({"expires_after[seconds]": "2592001"}, "expires_after.seconds"),
        ({"expires_after[seconds]": "soon"}, "expires_after.seconds"),
    ],
)
def test_a_wrong_field_is_named(http_client, fields, param):
    refused = _upload(http_client, b"{}", **fields)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == param


def test_a_missing_purpose_or_file_is_named(http_client):
    without_purpose = http_client.post("/v1/files", files={"file": ("a", b"x")})
    assert without_purpose.json()["error"]["param"] == "purpose"
    without_file = http_client.post("/v1/files", data={"purpose": "fine-tune"})
    assert without_file.status_code == 400


def test_a_file_over_the_limit_leaves_no_row(http_client, units):
    big = b"x" * (ingestion_settings().max_training_file_bytes + 1)
    refused = _upload(http_client, big)
    assert refused.status_code == 413
    assert refused.json()["error"]["code"] == "file_too_large"
    with units.open(PROJECT) as uow:
        assert uow.session.execute(text("SELECT count(*) FROM ingestion.files")).scalar_one() == 0


def test_a_caller_without_a_key_is_refused(http_client):
    refused = http_client.get("/v1/files", headers={"authorization": ""})
    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "invalid_api_key"


def test_a_broken_file_is_reported_by_line(http_client, units, blobs, rows):
    rows[3]["messages"][0]["role"] = "bot"
    file = _upload(http_client, _jsonl(rows)).json()
    _check(units, file["id"], blobs)
    _check(units, file["id"], blobs)  # a repeated check leaves no doubles
    report = http_client.get(f"/api/v1/files/{file['id']}/report").json()
    assert report["gate"] == "fail"
    assert [(f["rule"], f["line"], f["pointer"]) for f in report["findings"]] == [
        ("role_unknown", 4, "/messages/0/role")
    ]
    assert "Line 4" in http_client.get(f"/v1/files/{file['id']}").json()["status_details"]


def _seal(units, blobs, training, validation=None, share=0.0, dataset_id="ds_1", **fields):
    def source(rows, file_id):
        return Source(digest=blobs.put(PROJECT.project, _jsonl(rows)), file_id=file_id)

    command = SealDataset(
        dataset_id=dataset_id,
        base=BASE,
        training=[source(training, "file-1")],
        validation=source(validation, "file-2") if validation else None,
        validation_share=share,
        requester=Requester(kind="job", id="ftjob-1"),
        **fields,
    )
    outcome = sealing.assemble(blobs, PROJECT.project, command)
    with units.open(PROJECT) as uow:
        sealing.seal(uow, blobs, command, outcome)
    with units.open(PROJECT) as uow:
        sealing.seal(uow, blobs, command, outcome)  # a second delivery changes nothing
        return uow.session.execute(
            text("SELECT envelope->>'type', envelope->'data' FROM spine.deliveries ORDER BY seq")
        ).all()


def test_a_dataset_is_sealed_once_with_counts_and_a_manifest(units, blobs, rows, http_client):
    sent = _seal(units, blobs, rows, validation=rows[:2])
    assert [kind for kind, _ in sent] == ["dataset.sealed.v1"] * 2  # one for each consumer
    fact = sent[0][1]
    assert (fact["training_rows"], fact["validation_rows"]) == (20, 2)
    assert fact["training_tokens"] > fact["trained_tokens"] > 0
    shard = blobs.get(PROJECT.project, fact["training_digest"])
    assert [json.loads(line) for line in shard.splitlines()] == rows
    dataset = http_client.get("/api/v1/datasets/ds_1").json()
    assert [f["rule"] for f in dataset["findings"]] == ["train_validation_leak"] * 2
    manifest = blobs.get(PROJECT.project, dataset["manifest_digest"]).splitlines()
    entry = json.loads(manifest[7])
    piece = shard[entry["offset"] : entry["offset"] + entry["length"]]
    assert json.loads(piece) == rows[entry["line"] - 1]


def _preference(number: int) -> dict[str, object]:
    answers = (f"Answer {number}", f"No answer to {number}, which is longer")
    chosen, rejected = ([{"role": "assistant", "content": text}] for text in answers)
    return {
        "input": {"messages": [{"role": "user", "content": f"Question {number}"}]},
        "preferred_output": chosen,
        "non_preferred_output": rejected,
    }


@pytest.mark.parametrize("part", ["training", "validation"])
def test_a_row_that_cannot_be_written_is_refused_by_its_line(units, blobs, rows, part):
    odd = {
        "messages": [
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "refusal": 5},
            {"role": "assistant", "content": "So."},
        ]
    }
    given = {"training": rows, "validation": rows[:2]}
    given[part] = [*given[part], odd]
    (fact,) = {row[1]["code"]: row[1] for row in _seal(units, blobs, **given)}.values()
    assert (fact["code"], fact["line"]) == (f"invalid_{part}_file", len(given[part]))
    assert "cannot be written" in fact["message"]


def test_preferences_are_sealed_for_a_job_that_wants_them(units, blobs, rows, http_client):
    pairs = [_preference(number) for number in range(12)]
    sent = _seal(units, blobs, pairs, validation=pairs[:1], format="preference")
    assert [kind for kind, _ in sent] == ["dataset.sealed.v1"] * 2
    fact = sent[0][1]
    assert fact["training_rows"] == 12
    dataset = http_client.get("/api/v1/datasets/ds_1").json()
    assert [f["rule"] for f in dataset["findings"]] == ["train_validation_leak"]
    assert dataset["tokens"]["total"] > 12 * dataset["tokens"]["median"]
    for given, wanted in ((pairs, "chat"), (rows, "preference")):
        refused = _seal(units, blobs, given, dataset_id=f"ds_{wanted}", format=wanted)[-1][1]
        assert refused["code"] == "invalid_training_file"
        assert "chat" in refused["message"]
        assert "preference" in refused["message"]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda rows: rows[:9], "invalid_n_examples", "9"),
        (
            lambda rows: [*rows, {"prompt": "a", "completion": "b"}],
            "invalid_training_file",
            "prompt/completion",
        ),
        (
            lambda rows: [*rows[:4], {"messages": [{"role": "user", "content": "x"}]}, *rows[5:]],
            "invalid_training_file",
            "Line 5",
        ),
    ],
)
def test_bad_content_is_refused_with_code_and_line(units, blobs, rows, change, code, words):
    sent = _seal(units, blobs, change(rows))
    assert [kind for kind, _ in sent] == ["dataset.refused.v1"] * 2
    assert sent[0][1]["code"] == code
    assert words in sent[0][1]["message"]
    assert sent[0][1]["param"] == "training_file"


def test_a_broken_validation_file_is_named(units, blobs, rows):
    sent = _seal(units, blobs, rows, validation=[{"messages": []}])
    assert sent[0][1]["code"] == "invalid_validation_file"
    assert sent[0][1]["param"] == "validation_file"


def test_rows_are_held_out_when_a_share_is_asked_for(units, blobs, rows):
    sent = _seal(units, blobs, rows, share=0.2)
    assert (sent[0][1]["training_rows"], sent[0][1]["validation_rows"]) == (16, 4)
