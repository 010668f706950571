"""Checks 1 to 12: files and uploads."""

from __future__ import annotations

import http.client
import io
import time
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest

from tests.conformance.checks import in_both_modes
from tests.conformance.samples import BASE, jsonl, rows, upload

_HOUR, _MONTH = 3_600, 2_592_000


@in_both_modes
def test_check_01_upload_is_answered_with_a_file(client):
    """An upload is answered with a file of the right size and name."""
    content = jsonl(rows())
    file = upload(client, content)
    assert (file.object, file.bytes, file.filename) == ("file", len(content), "rows.jsonl")
    assert (file.purpose, file.id.startswith("file-")) == ("fine-tune", True)


def test_check_02_every_kind_of_file_is_taken(client, tmp_path: Path):
    """Path, bytes, tuple and handle are taken, and a name in any script survives."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(jsonl(rows()))
    named = "données-数据.jsonl"
    with path.open("rb") as handle:
        for given in (path, path.read_bytes(), (named, path.read_bytes()), handle):
            file = client.files.create(file=given, purpose="fine-tune")
            assert file.bytes == path.stat().st_size
            if isinstance(given, tuple):
                assert file.filename == named


def test_check_03_byte_order_marks_and_line_ends(client):
    """UTF-8 with a mark, CRLF and an empty last line pass; UTF-16 is refused by name."""
    text = jsonl(rows()).decode().replace("\n", "\r\n") + "\r\n"
    marked = client.files.wait_for_processing(
        upload(client, text.encode("utf-8-sig")).id, poll_interval=0.1
    )
    assert marked.status == "processed", marked.status_details
    wide = client.files.wait_for_processing(
        upload(client, text.encode("utf-16")).id, poll_interval=0.1
    )
    assert wide.status == "error"
    assert "UTF-16" in wide.status_details


@pytest.mark.parametrize("purpose", [None, "homework"])
def test_check_04_purpose_is_asked_for(client, purpose):
    """Without a purpose, or with an unknown one, the field is named."""
    given = {} if purpose is None else {"purpose": purpose}
    with pytest.raises(openai.BadRequestError) as refused:
        client.post(
            "/files",
            cast_to=object,
            body=given,
            files=[("file", ("rows.jsonl", jsonl(rows())))],
            options={"headers": {"content-type": "multipart/form-data"}},
        )
    assert refused.value.param == "purpose"


def test_check_05_too_large_an_upload_is_refused_before_it_is_read(live):
    """Too large a body is refused from its head, on a connection that stays open."""
    address = urlsplit(live.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    connection.putrequest("POST", "/v1/files")
    connection.putheader("authorization", f"Bearer {live.key}")
    connection.putheader("content-type", "multipart/form-data; boundary=x")
    connection.putheader("content-length", str(600 << 20))
    connection.endheaders(b"--x\r\n")
    answer = connection.getresponse()
    assert answer.status in {400, 413}
    assert b'"error"' in answer.read()
    connection.close()


def test_check_05_too_large_a_training_file_is_refused(client):
    """Too large a training file is refused with its limit, not by a reset."""
    with pytest.raises(openai.APIStatusError) as refused:
        upload(client, b" " * (17 << 20))
    assert refused.value.status_code in {400, 413}


@in_both_modes
def test_check_06_lists_page_through_every_file(client, live):
    """Of 250 files each is listed once, in either order, filtered by purpose."""
    strict = client._strict_response_validation
    project = "many-files-strict" if strict else "many-files"
    with live.client(live.key_of(project), strict=strict) as many:
        made = [
            many.files.create(file=(f"{n}.txt", b"text"), purpose="user_data").id
            for n in range(250)
        ]
        upload(many)
        assert [f.id for f in many.files.list(purpose="user_data", order="asc", limit=100)] == made
        newest = [f.id for f in many.files.list(purpose="user_data", limit=7)]
        assert newest == made[::-1]
        assert len(list(many.files.list())) == 251
        after = many.files.list(purpose="user_data", order="asc", after=made[9], limit=1)
        assert after.data[0].id == made[10]
        assert many.files.retrieve(made[3]).filename == "3.txt"


def test_check_07_content_is_what_was_uploaded(client):
    """The content of a file is, byte for byte, what was uploaded."""
    content = jsonl(rows()) + "Zeichen für Zeichen".encode()
    file = client.files.create(file=("notes.txt", content), purpose="user_data")
    assert client.files.content(file.id).read() == content
    assert client.files.content(file.id).text == content.decode()


def test_check_08_deleted_files_are_gone(client):
    """A file is deleted once, and unknown from then on."""
    file = upload(client)
    assert client.files.delete(file.id).deleted is True
    with pytest.raises(openai.NotFoundError):
        client.files.delete(file.id)


def test_check_09_a_job_keeps_the_rows_of_a_deleted_file(client):
    """Deleting the file of a job that is waiting or running succeeds, and the job goes on."""
    file = upload(client)
    job = client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    assert client.files.delete(file.id).deleted is True
    deadline = time.monotonic() + 60
    while client.fine_tuning.jobs.retrieve(job.id).status == "validating_files":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert client.fine_tuning.jobs.retrieve(job.id).status in {"queued", "running"}
    client.fine_tuning.jobs.cancel(job.id)


def test_check_10_processing_can_be_waited_for(client):
    """Waiting ends in `processed`, or in `error` with details that name the line."""
    good = client.files.wait_for_processing(upload(client).id, poll_interval=0.1)
    assert good.status == "processed"
    broken = upload(client, jsonl([*rows(12), b"{"]))
    bad = client.files.wait_for_processing(broken.id, poll_interval=0.1)
    assert bad.status == "error"
    assert "ine 13" in bad.status_details


def test_check_11_files_expire_when_they_were_told_to(client):
    """`expires_after` comes back as an instant, within an hour and thirty days."""

    def made(seconds: int):
        return client.files.create(
            file=("rows.jsonl", jsonl(rows())),
            purpose="fine-tune",
            expires_after={"anchor": "created_at", "seconds": seconds},
        )

    file = made(_HOUR)
    assert abs(file.expires_at - file.created_at - _HOUR) <= 1
    for seconds in (_HOUR - 1, _MONTH + 1):
        with pytest.raises(openai.BadRequestError):
            made(seconds)


def test_check_12_large_files_arrive_in_parts(client):
    """A file of 150 MB arrives in three parts; a wrong digest is refused."""
    content = b"0123456789abcdef" * (150 << 16)
    done = client.uploads.upload_file_chunked(
        file=content,
        filename="large.txt",
        bytes=len(content),
        mime_type="text/plain",
        purpose="user_data",
    )
    assert done.file.bytes == len(content)
    started = client.uploads.create(
        filename="small.txt", bytes=4, mime_type="text/plain", purpose="user_data"
    )
    part = client.uploads.parts.create(started.id, data=io.BytesIO(b"text"))
    with pytest.raises(openai.BadRequestError):
        client.uploads.complete(started.id, part_ids=[part.id], md5="0" * 32)


@pytest.mark.slow
def test_check_12_parts_come_in_time(live, narrow):
    """A part that comes after its upload has expired is refused."""
    with openai.OpenAI(base_url=f"{narrow}/v1", api_key=live.key) as client:
        late = client.uploads.create(
            filename="late.txt", bytes=4, mime_type="text/plain", purpose="user_data"
        )
        time.sleep(1.2)
        with pytest.raises(openai.BadRequestError) as refused:
            client.uploads.parts.create(late.id, data=io.BytesIO(b"text"))
    assert refused.value.code == "upload_expired"
