"""The trainer process with its real child: jobs end well whatever is killed on the way."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from statistics import mean

import openai
import pytest
from finetuning_room import BASE, KEYS, PROJECT

from shared.blobs import make_blob_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROWS = 12
# One row a step: many steps in little time, and a checkpoint only after every twelve.
BATCH = 1


class Trainers:
    """Starts trainer processes of one database and one home."""

    def __init__(self, database, folder: Path) -> None:
        self.home = folder / "home"
        self.blobs = make_blob_store(str(folder / "blobs"))
        self._environment = os.environ | {
            "PERPETUNE_HOME": str(self.home),
            "PERPETUNE_BLOBS_URL": str(folder / "blobs"),
            "PERPETUNE_DATABASE_APP_URL": database.app,
            "PERPETUNE_DATABASE_SPINE_URL": database.spine,
            "PERPETUNE_LEASE_SECONDS": "3",
            "PERPETUNE_FINETUNING_POLL_SECONDS": "0.1",
            "PERPETUNE_FINETUNING_WATCH_SECONDS": "0.2",
            "PERPETUNE_FINETUNING_THREADS": "1",
            # The other processes of a test run are not to be waited for.
            "PERPETUNE_FINETUNING_NICE": "0",
        }
        self.running: list[subprocess.Popen] = []

    def start(self) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.finetuning.trainer"], env=self._environment
        )
        self.running.append(process)
        return process

    def folder(self, job_id: str) -> Path:
        return self.home / "training" / job_id

    def children(self, job_id: str) -> list[int]:
        """Process ids of the children that train this job."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    command = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                # A zombie has no command line any more.
                if b"services.finetuning.train\0" in command and job_id.encode() in command:
                    found.append(int(entry.name))
        return found


@pytest.fixture
def trainers(database, tmp_path):
    started = Trainers(database, tmp_path)
    yield started
    for process in started.running:
        process.kill()
        process.wait()


@pytest.fixture
def jobs(served):
    with openai.OpenAI(
        base_url=served, api_key=KEYS["owner"], _strict_response_validation=True
    ) as client:
        yield client.fine_tuning.jobs


def _jsonl(n_rows: int) -> bytes:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is the colour of thing {number}?"},
                {"role": "assistant", "content": f"Thing {number} is blue."},
            ]
        }
        for number in range(n_rows)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _queued(room, jobs, trainers, *, n_epochs=1, model=BASE, content=None, **fields):
    digest = trainers.blobs.put(PROJECT.project, _jsonl(ROWS) if content is None else content)
    job = jobs.create(
        model=model,
        training_file=room.add_file(digest),
        hyperparameters={"n_epochs": n_epochs, "batch_size": BATCH},
        seed=1,
        **fields,
    )
    room.queue(job.id, training_digest=digest, training_rows=ROWS)
    return job.id


def _until(what, seconds=240.0):
    deadline = time.monotonic() + seconds
    while not (result := what()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.25)
    return result


def _ended(room, jobs, job_id):
    def ended():
        room.register_models()
        job = jobs.retrieve(job_id)
        return job.status not in {"queued", "running"} and job

    return _until(ended)


def _steps(jobs, job_id):
    events = list(jobs.list_events(job_id, limit=100))
    return [event.data["step"] for event in reversed(events) if event.type == "metrics"]


def _n_steps(n_epochs: int) -> int:
    return n_epochs * ROWS // BATCH


def test_job_shows_its_model_when_it_can_be_asked(room, jobs, trainers):
    job_id = _queued(room, jobs, trainers)
    trainers.start()
    state = "SELECT state, fine_tuned_model FROM finetuning.jobs WHERE id = :id"
    _until(lambda: room.rows(state, id=job_id)[0].state == "succeeded")
    early = jobs.retrieve(job_id)
    assert (early.status, early.fine_tuned_model, early.finished_at) == ("running", None, None)
    assert [job.status for job in jobs.list()] == ["running"]
    room.register_models()
    assert jobs.retrieve(job_id).fine_tuned_model == room.rows(state, id=job_id)[0].fine_tuned_model


def test_job_ends_with_model_checkpoints_and_result_file(room, jobs, trainers):
    job_id = _queued(room, jobs, trainers, n_epochs=2, suffix="mine")
    trainers.start()
    job = _ended(room, jobs, job_id)
    assert job.status == "succeeded", job.error
    assert re.fullmatch(rf"ft:{BASE}:acme:mine:\w{{8}}", job.fine_tuned_model)
    assert job.trained_tokens > 0
    assert job.estimated_finish is None
    assert job.finished_at >= job.created_at
    assert _steps(jobs, job_id) == list(range(1, _n_steps(2) + 1))

    checkpoints = jobs.checkpoints.list(job_id).data
    assert [checkpoint.step_number for checkpoint in checkpoints] == [24, 12]
    assert checkpoints[0].fine_tuned_model_checkpoint.endswith(":ckpt-step-24")
    assert checkpoints[0].metrics.train_loss > 0
    assert len({point.fine_tuned_model_checkpoint for point in checkpoints}) == 2

    models = room.rows(
        "SELECT envelope->'data' AS data FROM spine.events WHERE type = 'model.created.v1'"
    )
    assert [model.data["kind"] for model in models] == ["checkpoint", "checkpoint", "fine_tuned"]
    final = models[-1].data
    assert final["model_id"] == job.fine_tuned_model
    assert trainers.blobs.get(PROJECT.project, final["gguf_digest"]).startswith(b"GGUF")
    with tarfile.open(trainers.blobs.path(PROJECT.project, final["peft_digest"])) as archive:
        assert {"adapter_config.json", "adapter_model.safetensors"} <= set(archive.getnames())
    assert len(room.emitted("job.succeeded.v1")) == 2  # a delivery to workloads, and the event

    (result,) = room.emitted("file.result_stored.v1")
    assert job.result_files == [result["file_id"]]
    table = trainers.blobs.get(PROJECT.project, result["digest"])
    assert result["bytes"] == len(table)
    rows = list(csv.reader(io.StringIO(table.decode())))
    assert rows[0][:3] == ["step", "train_loss", "train_accuracy"]
    assert len(rows) == 1 + _n_steps(2)

    messages = [event.message for event in jobs.list_events(job_id, limit=100)]
    assert messages[:2] == [
        "The job has successfully completed",
        f"New fine-tuned model created: {job.fine_tuned_model}",
    ]
    assert room.rows("SELECT 1 FROM spine.leases") == []
    _until(lambda: not trainers.folder(job_id).exists())


def test_checkpoint_is_trained_further_from_its_loss(room, jobs, trainers):
    parent = _queued(room, jobs, trainers, n_epochs=2)
    trainers.start()
    assert _ended(room, jobs, parent).status == "succeeded"
    newest = jobs.checkpoints.list(parent).data[0]
    model = newest.fine_tuned_model_checkpoint
    child = _queued(room, jobs, trainers, model=model)
    assert _ended(room, jobs, child).status == "succeeded"

    def losses(job_id):
        events = reversed(list(jobs.list_events(job_id, limit=100)))
        return [event.data["train_loss"] for event in events if event.type == "metrics"]

    before, after = losses(parent), losses(child)
    assert mean(after[:4]) < mean(before[:4]) / 2
    assert jobs.retrieve(child).model == model


@pytest.mark.parametrize("victim", ["trainer", "child"])
def test_killed_training_ends_well_with_every_step_once(room, jobs, trainers, victim):
    job_id = _queued(room, jobs, trainers, n_epochs=2)
    trainer = trainers.start()
    _until(lambda: len(_steps(jobs, job_id)) >= 5)
    (child,) = trainers.children(job_id)
    if victim == "child":
        os.kill(child, signal.SIGKILL)
    else:
        trainer.kill()
        trainer.wait()
        # The kernel kills the child of a killed trainer.
        _until(lambda: child not in trainers.children(job_id), 10)
        trainers.start()
    job = _ended(room, jobs, job_id)
    assert job.status == "succeeded", job.error
    assert sorted(_steps(jobs, job_id)) == list(range(1, _n_steps(2) + 1))
    messages = [event.message for event in jobs.list_events(job_id, limit=100)]
    assert sum("interrupted" in message for message in messages) == 1


def test_trainer_told_to_stop_saves_and_gives_the_job_back(room, jobs, trainers):
    job_id = _queued(room, jobs, trainers, n_epochs=2)
    trainer = trainers.start()
    _until(lambda: len(_steps(jobs, job_id)) >= 3)
    assert jobs.retrieve(job_id).estimated_finish is not None
    trainer.terminate()
    assert trainer.wait(20) == 0
    assert trainers.children(job_id) == []
    assert (trainers.folder(job_id) / "state.safetensors").exists()
    assert room.rows("SELECT owner FROM spine.leases") == [(None,)]
    trainers.start()
    assert _ended(room, jobs, job_id).status == "succeeded"
    assert sorted(_steps(jobs, job_id)) == list(range(1, _n_steps(2) + 1))


def test_cancelled_job_stops_its_child_and_leaves_nothing(room, jobs, trainers):
    job_id = _queued(room, jobs, trainers, n_epochs=50)
    trainers.start()
    _until(lambda: len(_steps(jobs, job_id)) >= 2)
    assert jobs.cancel(job_id).status == "cancelled"
    done = len(_steps(jobs, job_id))
    _until(lambda: not trainers.children(job_id), 15)
    _until(lambda: not trainers.folder(job_id).exists(), 15)
    assert len(_steps(jobs, job_id)) == done
    assert jobs.retrieve(job_id).status == "cancelled"
    assert jobs.retrieve(job_id).estimated_finish is None


def test_paused_job_stops_and_goes_on_where_it_was(room, jobs, trainers, served):
    job_id = _queued(room, jobs, trainers, n_epochs=2)
    # The strict client knows no state `paused`.
    with openai.OpenAI(base_url=served, api_key=KEYS["owner"]) as client:
        anybodys = client.fine_tuning.jobs
        with pytest.raises(openai.BadRequestError, match="is queued and cannot be paused"):
            anybodys.pause(job_id)
        trainers.start()
        _until(lambda: len(_steps(jobs, job_id)) >= 3)
        assert anybodys.pause(job_id).status == "paused"
        _until(lambda: not trainers.children(job_id), 20)
        done = len(_steps(jobs, job_id))
        assert (trainers.folder(job_id) / "state.safetensors").exists()
        assert room.rows("SELECT owner FROM spine.leases") == [(None,)]
        with pytest.raises(openai.BadRequestError, match="is paused and cannot be paused"):
            anybodys.pause(job_id)
        assert anybodys.resume(job_id).status == "queued"
    job = _ended(room, jobs, job_id)
    assert job.status == "succeeded", job.error
    assert sorted(_steps(jobs, job_id)) == list(range(1, _n_steps(2) + 1))
    told = [event.message for event in jobs.list_events(job_id, limit=100)]
    assert any(f"goes on after step {done}" in text for text in told), told
    assert not any("interrupted" in text for text in told)


def test_paused_job_that_is_cancelled_leaves_nothing(room, jobs, trainers, served):
    job_id = _queued(room, jobs, trainers, n_epochs=50)
    trainers.start()
    _until(lambda: len(_steps(jobs, job_id)) >= 1)
    with openai.OpenAI(base_url=served, api_key=KEYS["owner"]) as client:
        assert client.fine_tuning.jobs.pause(job_id).status == "paused"
        assert client.fine_tuning.jobs.cancel(job_id).status == "cancelled"
    _until(lambda: not trainers.folder(job_id).exists(), 20)
    _until(lambda: room.rows("SELECT 1 FROM spine.leases") == [], 20)


def test_child_that_never_makes_a_step_ends_the_job(room, jobs, trainers):
    job_id = _queued(room, jobs, trainers)
    trainers.start()
    killed = set()
    while jobs.retrieve(job_id).status in {"queued", "running"}:
        for child in set(trainers.children(job_id)) - killed:
            os.kill(child, signal.SIGKILL)
            killed.add(child)
        time.sleep(0.05)
    job = jobs.retrieve(job_id)
    assert (job.status, job.error.code) == ("failed", "trainer_died")
    assert len(killed) == 3
    assert room.rows("SELECT 1 FROM spine.leases") == []


def test_rows_the_child_refuses_fail_the_job(room, jobs, trainers):
    job_id = _queued(room, jobs, trainers, content=b"no json\n")
    trainers.start()
    job = _ended(room, jobs, job_id)
    assert (job.status, job.error.code) == ("failed", "invalid_training_file")
    assert "line 1" in job.error.message


def test_rows_that_are_gone_fail_the_job(room, jobs, trainers):
    job = jobs.create(model=BASE, training_file=room.add_file())
    room.queue(job.id, training_digest="e" * 64)
    trainers.start()
    ended = _ended(room, jobs, job.id)
    assert (ended.status, ended.error.code) == ("failed", "blob_missing")
