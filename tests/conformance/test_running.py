"""Checks 37 to 45: jobs on their way."""

from __future__ import annotations

import csv
import io
import os
import signal
import time

import openai
import pytest

from tests.conformance.checks import in_both_modes
from tests.conformance.samples import BASE, ended, jsonl, rows, upload

pytestmark = pytest.mark.slow

KEYS = {"step", "total_steps", "train_loss", "train_mean_token_accuracy"}


def a_job(client: openai.OpenAI, *, epochs: int = 3, **fields: object):
    """A job of four steps an epoch."""
    return client.fine_tuning.jobs.create(
        model=BASE,
        training_file=upload(client, jsonl(rows())).id,
        seed=7,
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": epochs, "batch_size": 4}},
        },
        **fields,
    )


def metrics(client: openai.OpenAI, job_id: str) -> list[dict[str, float]]:
    """Data of the metrics events, oldest first."""
    events = client.fine_tuning.jobs.list_events(job_id, limit=100)
    return [event.data for event in events if event.type == "metrics"][::-1]


def after_a_step(client: openai.OpenAI, job_id: str, least: int = 1) -> None:
    """Wait until so many steps were told."""
    deadline = time.monotonic() + 300
    while len(metrics(client, job_id)) < least:
        assert time.monotonic() < deadline, "no step was told"
        time.sleep(0.2)


@in_both_modes
def test_check_37_events_page_newest_first(client, tuned):
    """Events are listed newest first; page by page each comes once."""
    paged = [event.id for event in client.fine_tuning.jobs.list_events(tuned.id, limit=3)]
    whole = client.fine_tuning.jobs.list_events(tuned.id, limit=100).data
    assert paged == [event.id for event in whole]
    assert len(set(paged)) == len(paged)
    assert [e.created_at for e in whole] == sorted((e.created_at for e in whole), reverse=True)


def test_check_38_each_step_has_its_metrics(client, tuned):
    """Each step has one event with OpenAI's keys, and the number of steps stays."""
    told = metrics(client, tuned.id)
    assert [data["step"] for data in told] == list(range(1, len(told) + 1))
    assert {data["total_steps"] for data in told} == {len(told)}
    assert all(data.keys() >= KEYS for data in told)


def test_check_39_jobs_page_filter_and_stay_in_their_project(client, other, tuned):
    """Jobs page one by one, are filtered by metadata, and are not seen from elsewhere."""
    marked = a_job(client, metadata={"check": "39"})
    client.fine_tuning.jobs.cancel(marked.id)
    listed = [job.id for job in client.fine_tuning.jobs.list(limit=1)]
    assert {marked.id, tuned.id} <= set(listed)
    assert len(set(listed)) == len(listed)
    assert [j.id for j in client.fine_tuning.jobs.list(metadata={"check": "39"})] == [marked.id]
    assert marked.id not in {job.id for job in other.fine_tuning.jobs.list()}
    with pytest.raises(openai.NotFoundError):
        other.fine_tuning.jobs.retrieve(marked.id)


def test_check_40_unknown_jobs_are_not_found(client):
    """An unknown job is not found, with a code."""
    with pytest.raises(openai.NotFoundError) as unknown:
        client.fine_tuning.jobs.retrieve("ftjob-none")
    assert unknown.value.code


def test_check_41_jobs_are_cancelled(client):
    """A waiting and a running job are cancelled; one that has ended is refused, asked once."""
    running, waiting = a_job(client, epochs=20), a_job(client)
    after_a_step(client, running.id)
    assert client.fine_tuning.jobs.cancel(waiting.id).status == "cancelled"
    assert client.fine_tuning.jobs.cancel(running.id).status == "cancelled"
    time.sleep(1)
    steps = len(metrics(client, running.id))
    time.sleep(10)
    assert len(metrics(client, running.id)) <= steps + 1
    with pytest.raises(openai.BadRequestError) as refused:
        client.fine_tuning.jobs.cancel(running.id)
    assert refused.value.response.request.headers["x-stainless-retry-count"] == "0"


def test_check_42_jobs_pause_and_go_on(client, tuned):
    """A paused job makes no steps; resumed, it ends with the metrics of one never paused."""
    job = a_job(client)
    with pytest.raises(openai.BadRequestError):
        client.fine_tuning.jobs.pause(a_job(client).id)
    after_a_step(client, job.id, 2)
    assert client.fine_tuning.jobs.pause(job.id).status == "paused"
    time.sleep(10)
    steps = len(metrics(client, job.id))
    time.sleep(10)
    assert len(metrics(client, job.id)) == steps
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"
    assert ended(client, job.id).status == "succeeded"
    last = metrics(client, job.id)[-1]["train_loss"]
    assert last == pytest.approx(metrics(client, tuned.id)[-1]["train_loss"], rel=1e-2)


def test_check_43_killed_trainers_leave_no_trace(client, live, tuned):
    """A job whose trainer is killed goes on; its result file has each step once."""
    job = a_job(client)
    after_a_step(client, job.id, 3)
    (trainer,) = [state for state in live.stack.status() if state.name == "trainer"]
    os.killpg(trainer.pid, signal.SIGKILL)
    finished = ended(client, job.id)
    assert finished.status == "succeeded", finished.error
    table = client.files.content(finished.result_files[0]).text
    steps = [int(row["step"]) for row in csv.DictReader(io.StringIO(table))]
    assert steps == list(range(1, len(steps) + 1))
    last = metrics(client, job.id)[-1]["train_loss"]
    assert last == pytest.approx(metrics(client, tuned.id)[-1]["train_loss"], rel=1e-2)


def test_check_44_running_jobs_say_when_they_will_be_done(client):
    """The finish is estimated while a job makes steps, and null otherwise."""
    job = a_job(client)
    assert job.estimated_finish is None
    after_a_step(client, job.id, 2)
    running = client.fine_tuning.jobs.retrieve(job.id)
    assert isinstance(running.estimated_finish, int)
    assert client.fine_tuning.jobs.cancel(job.id).estimated_finish is None


@in_both_modes
def test_check_45_each_epoch_leaves_a_checkpoint_that_answers(client, tuned):
    """Every epoch leaves a checkpoint, newest first, and each answers."""
    found = client.fine_tuning.jobs.checkpoints.list(tuned.id).data
    assert [c.step_number for c in found] == [12, 8, 4][-len(found) :]
    assert len(found) == 3
    for checkpoint in found:
        answer = client.chat.completions.create(
            model=checkpoint.fine_tuned_model_checkpoint,
            messages=[{"role": "user", "content": "Code of amber chair?"}],
            max_tokens=8,
        )
        assert answer.choices[0].message.content
