"""Uploads in parts by the unmodified client, on a real Postgres and a real blob store."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest
from ingestion_room import PROJECT

from services.ingestion import repository
from services.ingestion.settings import ingestion_settings

PARTS = (b"first ", b"second ", b"third")
WHOLE = b"".join(PARTS)


@pytest.fixture
def upload(http_client):
    """One that has begun, of the three parts."""
    return begun(http_client).json()


def begun(client, **fields):
    body = {
        "filename": "notes.txt",
        "purpose": "user_data",
        "bytes": len(WHOLE),
        "mime_type": "text/plain",
        **fields,
    }
    return client.post("/v1/uploads", json=body)


def added(client, upload_id: str, data: bytes):
    return client.post(f"/v1/uploads/{upload_id}/parts", files={"data": ("part", data)})


def completed(client, upload_id: str, part_ids: list[str], **fields):
    body = {"part_ids": part_ids, **fields}
    return client.post(f"/v1/uploads/{upload_id}/complete", json=body)


def all_parts(client, upload_id: str) -> list[str]:
    """Ids in the order of the parts, which arrived the other way round."""
    ids = [added(client, upload_id, part).json()["id"] for part in reversed(PARTS)]
    return ids[::-1]


def test_parts_become_a_file_in_the_order_they_are_named(http_client, upload):
    assert (upload["status"], upload["file"]) == ("pending", None)
    parts = all_parts(http_client, upload["id"])
    md5 = hashlib.md5(WHOLE).hexdigest()
    done = completed(http_client, upload["id"], parts, md5=md5).json()
    assert done["status"] == "completed"
    assert (done["file"]["bytes"], done["file"]["filename"]) == (len(WHOLE), "notes.txt")
    content = http_client.get(f"/v1/files/{done['file']['id']}/content").content
    assert content == WHOLE
    again = completed(http_client, upload["id"], parts).json()
    assert again["file"]["id"] == done["file"]["id"]
    assert len(http_client.get("/v1/files").json()["data"]) == 1
    http_client.delete(f"/v1/files/{done['file']['id']}")
    assert completed(http_client, upload["id"], parts).json()["file"] is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda parts: parts[:2], "wrong_size"),
        (lambda parts: [*parts, parts[0]], "part_named_twice"),
        (lambda parts: [*parts[:2], "part_none"], "part_not_found"),
    ],
    ids=["one is missing", "one twice", "one unknown"],
)
def test_wrong_parts_are_refused_and_the_upload_stays_open(http_client, upload, change, code):
    parts = all_parts(http_client, upload["id"])
    refused = completed(http_client, upload["id"], change(parts))
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, code)
    assert completed(http_client, upload["id"], parts).json()["status"] == "completed"


def test_another_digest_is_refused_and_the_upload_stays_open(http_client, upload):
    parts = all_parts(http_client, upload["id"])
    refused = completed(http_client, upload["id"], parts, md5="0" * 32).json()["error"]
    assert (refused["code"], refused["param"]) == ("wrong_md5", "md5")
    assert completed(http_client, upload["id"], parts).json()["status"] == "completed"


def test_a_cancelled_upload_takes_nothing_more(http_client, upload):
    cancel = f"/v1/uploads/{upload['id']}/cancel"
    assert http_client.post(cancel).json()["status"] == "cancelled"
    assert http_client.post(cancel).json()["status"] == "cancelled"
    refused = added(http_client, upload["id"], b"late")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "upload_cancelled")


def test_an_upload_ends_with_its_hour(http_client, upload, units):
    (part,) = [added(http_client, upload["id"], WHOLE).json()["id"]]
    with units.open(PROJECT) as uow:
        row = repository.load_upload(uow, upload["id"])
        row.expires_at = uow.now - timedelta(seconds=1)
    for refused in (
        added(http_client, upload["id"], b"late"),
        completed(http_client, upload["id"], [part]),
        http_client.post(f"/v1/uploads/{upload['id']}/cancel"),
    ):
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "upload_expired")


def test_fields_of_an_upload_are_checked(http_client):
    most = ingestion_settings().max_training_file_bytes
    for fields, status, param in (
        ({"purpose": "homework"}, 400, "purpose"),
        ({"bytes": 0}, 400, "bytes"),
        ({"bytes": most + 1, "purpose": "fine-tune"}, 413, "bytes"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, 400, "expires_after.seconds"),
    ):
        refused = begun(http_client, **fields)
        assert (refused.status_code, refused.json()["error"]["param"]) == (status, param)
    unknown = added(http_client, "upload_none", b"x")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "upload_not_found")


def test_a_part_over_the_limit_is_refused(http_client, upload, monkeypatch):
    monkeypatch.setenv("PERPETUNE_INGESTION_MAX_PART_BYTES", "1024")
    ingestion_settings.cache_clear()
    try:
        assert added(http_client, upload["id"], b"x" * 1025).status_code == 413
        assert added(http_client, upload["id"], b"x" * 1024).status_code == 200
        assert added(http_client, upload["id"], b"x" * 1024).status_code == 200
        more = added(http_client, upload["id"], b"y" * 1024)
        assert (more.status_code, more.json()["error"]["code"]) == (413, "upload_too_large")
    finally:
        ingestion_settings.cache_clear()
