"""F-22: no room on the disk of the blobs, or of Postgres, and then room again, inside one load."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.request
from uuid import uuid4

import psycopg

from tests.faults.small_disk import full, small_disk, why_not
from tests.faults.trial import REFUSING, bound_of_ringing
from tests.faults.watching import until

FAULT = "F-22"
NO_DISK = why_not()
BLOBS_BYTES = 64 << 20
# What an empty database needs is some 60 MiB, and a segment of its log 16.
POSTGRES_BYTES = 320 << 20


def test_an_upload_without_room_is_refused_whole(stack, trial):
    """The blobs' disk full at a random byte of an upload.

    Guarantee: the upload is answered 507 and leaves no file behind; once there is room the same
    upload succeeds and is checked.
    """
    if NO_DISK:
        trial.skip(NO_DISK)
    bound = bound_of_ringing(stack.settings)
    blobs = stack.home.blobs
    with small_disk(blobs, BLOBS_BYTES), trial.load(projects=1) as load:
        key = stack.key(load.projects[0])
        for _ in trial.rounds():
            trial.pause(0.1, 0.5)
            content = training_file(trial.chance)
            before = files_in(blobs)
            with full(blobs, free_bytes=trial.chance.randrange(2 * len(content) - 8192)):
                status, _ = upload(stack, key, content)
                trial.expect(status == 507, f"an upload without room was answered {status}")
            trial.expect(files_in(blobs) == before, "an upload left a part behind")
            status, made = upload(stack, key, content)
            trial.expect(status == 200, f"an upload with room was answered {status}")
            began = time.time()
            until(lambda: state_of(stack, key, made["id"]) == "processed", what="it is checked")  # noqa: B023
            trial.recovered(load, bound)
            trial.recoveries.append(time.time() - began)
    trial.conclude(load, bound)


def test_a_database_without_room_refuses_and_goes_on(stack, trial):
    """Postgres' disk full for a second or more, in half of all rounds so that it breaks down.

    Guarantee: the API answers 503 or 507, nothing is half-written, and all that was accepted is
    done once there is room.
    """
    if NO_DISK:
        trial.skip(NO_DISK)
    bound = bound_of_ringing(stack.settings)
    breakdowns = 0
    with on_small_disk(stack) as data:
        with trial.load() as load:
            for _ in trial.rounds():
                trial.pause()
                before = refusals(load)
                with full(data):
                    if trial.chance.random() < 0.5:
                        breakdowns += break_down(stack)
                    time.sleep(trial.chance.uniform(1, 3))
                    until(lambda: refusals(load) > before, what="something is refused")  # noqa: B023
                if stack.postgres.process.poll() is not None:
                    stack.restart_postgres(down_seconds=0)
                trial.recovered(load, bound, cut_off=4 * stack.layout.workers)
        until(lambda: stack.rows("SELECT 1"), what="Postgres is there")
    trial.expect(not trial.is_full or breakdowns > 0, "Postgres never broke down")
    trial.note(
        f"Postgres broke down {breakdowns} times; the API answered {dict(load.answers)}, "
        f"{len(load.refused)} commands were refused"
    )
    trial.contradictions += load.unfit_answers(within_seconds=10)
    trial.conclude(load, bound, answers=REFUSING | {507})


def refusals(load):
    """How often a sender was told that there is no room, or no database."""
    return len(load.refused) + len(load.unknown) + load.answers[503] + load.answers[507]


@contextlib.contextmanager
def on_small_disk(stack):
    """The data of Postgres on a disk of its own for the length of a block."""
    data = stack.postgres.log.parent / "data"
    with contextlib.ExitStack() as parts:
        stack.postgres.kill()
        time.sleep(0.5)  # its backends notice
        parts.callback(stack.restart_postgres, down_seconds=0)
        parts.enter_context(small_disk(data, POSTGRES_BYTES))
        parts.callback(_stop, stack.postgres)
        stack.restart_postgres(down_seconds=0)
        yield data


def _stop(server):
    server.kill()
    time.sleep(0.5)


def break_down(stack):
    """Have the log go on to new files until there is no room for one; whether that ended it."""
    with contextlib.suppress(psycopg.Error):
        for _ in range(64):
            stack.rows("SELECT pg_switch_wal()")
            stack.rows("INSERT INTO faults.reservations VALUES (gen_random_uuid()::text)")
    with contextlib.suppress(AssertionError):
        until(lambda: stack.postgres.process.poll() is not None, what="it ends", seconds=1)
    return stack.postgres.process.poll() is not None


def training_file(chance):
    """Some hundred kilobytes of chats, no two files alike."""
    rows = [
        {"messages": [
            {"role": "user", "content": f"{uuid4()} {'word ' * 40}"},
            {"role": "assistant", "content": "Yes."},
        ]}
        for _ in range(chance.randint(200, 2_000))
    ]  # fmt: skip
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def files_in(folder):
    return {str(path) for path in folder.rglob("*") if path.is_file() and path.name != "filler"}


def upload(stack, key, content):
    boundary = uuid4().hex
    head = (
        f'--{boundary}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
        f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
    )
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    kind = {"content-type": f"multipart/form-data; boundary={boundary}"}
    return ask(stack, key, "/v1/files", body, kind)


def state_of(stack, key, file_id):
    return ask(stack, key, f"/v1/files/{file_id}")[1].get("status")


def ask(stack, key, path, body=None, headers=None):
    request = urllib.request.Request(
        f"{stack.gateway_url}{path}",
        data=body,
        headers={"authorization": f"Bearer {key}", **(headers or {})},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
