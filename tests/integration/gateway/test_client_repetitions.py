"""The unmodified `openai` client repeats by itself what it got no answer to; once is enough."""

from __future__ import annotations

import io
import socket
import threading
import time

import openai
import pytest
import uvicorn
from sqlalchemy import text

from shared.context import Context
from shared.ids import Project

BASE = "smollm2-135m-instruct"
AGAIN = {"x-stainless-retry-count": "1"}


class LosesAnswers:
    """A server in front of the app: it does what is asked and breaks off before it answers."""

    def __init__(self, app):
        self._app = app
        self.losses = 0
        self.attempts = []

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        self.attempts.append(dict(scope["headers"])[b"x-stainless-retry-count"].decode())
        if not self.losses:
            await self._app(scope, receive, send)
            return
        self.losses -= 1

        async def swallow(_message):
            pass

        await self._app(scope, receive, swallow)
        raise ConnectionError("the answer is lost")


@pytest.fixture
def lossy(app):
    return LosesAnswers(app)


@pytest.fixture
def strict(lossy, make_key):
    """The client over a real socket; it repeats twice."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(lossy, log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    address = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    key = make_key()["authorization"].partition(" ")[2]
    with openai.OpenAI(base_url=address, api_key=key, max_retries=2) as client:
        yield client
    server.should_exit = True
    thread.join()
    listening.close()


@pytest.fixture
def count(units):
    def count(table: str) -> int:
        with units.open(Context.root(Project("a"), "test")) as uow:
            return int(uow.session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())

    return count


def _upload(client, content=b'{"messages": []}\n', name="rows.jsonl", **options):
    return client.files.create(file=(name, io.BytesIO(content)), purpose="fine-tune", **options)


def test_an_upload_whose_answer_is_lost_twice_makes_one_file(strict, lossy, count):
    lossy.losses = 2
    file = _upload(strict)
    assert lossy.attempts == ["0", "1", "2"]
    assert [listed.id for listed in strict.files.list()] == [file.id]
    assert count("spine.deliveries") == 1


def test_a_job_whose_answer_is_lost_is_made_once_and_cancelled_once(strict, lossy, count):
    file = _upload(strict)
    lossy.losses = 1
    job = strict.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    assert [listed.id for listed in strict.fine_tuning.jobs.list()] == [job.id]
    lossy.losses = 1
    assert strict.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    assert lossy.attempts == ["0", "0", "1", "0", "1"]
    assert count("spine.audit_entries WHERE action = 'job.cancelled'") == 1


def test_a_first_request_is_never_taken_for_a_repetition(strict):
    """Guarantee: what the client does not mark as repeated is carried out."""
    files = [_upload(strict).id for _ in range(3)]
    assert len(set(files)) == 3
    jobs = [strict.fine_tuning.jobs.create(model=BASE, training_file=files[0]).id for _ in range(2)]
    assert len(set(jobs)) == 2


def test_a_repetition_gets_the_newest_file_of_the_same_upload_only(strict, units):
    first, newest = _upload(strict), _upload(strict)
    assert _upload(strict, extra_headers=AGAIN).id == newest.id
    others = [
        _upload(strict, name="other.jsonl", extra_headers=AGAIN).id,
        _upload(strict, b'{"messages": [1]}\n', extra_headers=AGAIN).id,
        _upload(
            strict, extra_headers=AGAIN, expires_after={"anchor": "created_at", "seconds": 3600}
        ).id,
    ]
    assert len({first.id, newest.id, *others}) == 5
    # The one with an expiry is recognised as well, and by nothing but its own life time.
    for seconds, is_known in ((3600, True), (7200, False)):
        expiry = {"anchor": "created_at", "seconds": seconds}
        again = _upload(strict, extra_headers=AGAIN, expires_after=expiry)
        assert (again.id == others[2]) is is_known
    strict.files.delete(newest.id)
    assert _upload(strict, extra_headers=AGAIN).id == first.id
    with units.open(Context.root(Project("a"), "test")) as uow:
        uow.session.execute(text("UPDATE ingestion.files SET created_at = now() - interval '1 h'"))
    assert _upload(strict, extra_headers=AGAIN).id not in {first.id, newest.id, *others}


def test_a_key_of_the_callers_own_is_honoured_for_jobs(strict):
    file = _upload(strict)
    keyed = {"idempotency-key": "mine"}
    ids = {
        strict.fine_tuning.jobs.create(model=BASE, training_file=file.id, extra_headers=keyed).id
        for _ in range(2)
    }
    assert len(ids) == 1
