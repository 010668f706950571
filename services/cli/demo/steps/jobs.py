"""A fine-tuning job, watched to its end by OpenAI's client."""

from __future__ import annotations

import time
from typing import Any

from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

from services.cli.connection import Connection
from services.cli.demo.demonstration import Demonstration
from services.cli.demo.screen import Watch
from services.cli.demo.summary import StepRecord
from services.cli.demo.waiting import POLL_SECONDS
from services.cli.errors import CommandFailed

_TIMEOUT_SECONDS = 1200.0


def follow(demo: Demonstration, record: StepRecord, job_id: str) -> FineTuningJob:
    """
    Show a job's steps and losses until it has succeeded; its running time counts as training.

    Raises:
        CommandFailed: It failed, was cancelled, or took too long.
    """
    connection = demo.connection
    with demo.screen.watch("training") as watch:
        job = _until(demo, job_id, watch, running=False)
        with record.timed("training"):
            job = _until(demo, job_id, watch, running=True)
    losses = [data["train_loss"] for data in _metrics(_events(connection, job_id))]
    demo.screen.curve(losses)
    if job.status != "succeeded" or not job.fine_tuned_model:
        why = f"{job.error.code}: {job.error.message}" if job.error else "no reason given"
        raise CommandFailed(f"Job {job_id} ended {job.status} ({why}).")
    if losses:
        first, last = f"{losses[0]:.3f}", f"{losses[-1]:.3f}"
        demo.screen.say(f"loss {first} -> {last} in {len(losses)} steps")
        record.facts["training_steps"] = len(losses)
    demo.screen.say(f"model {job.fine_tuned_model}")
    return job


def _until(demo: Demonstration, job_id: str, watch: Watch, *, running: bool) -> FineTuningJob:
    """The job when it has ended, or, with *running* false, when it runs."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while True:
        job = demo.connection.openai.fine_tuning.jobs.retrieve(job_id)
        _show(watch, job, _events(demo.connection, job_id))
        if job.status in {"succeeded", "failed", "cancelled"}:
            return job
        if job.status == "running" and not running:
            return job
        if time.monotonic() >= deadline:
            raise CommandFailed(
                f"Waited {_TIMEOUT_SECONDS:.0f} s for job {job_id}; it is still {job.status}."
            )
        time.sleep(POLL_SECONDS)


def _show(watch: Watch, job: FineTuningJob, events: list[FineTuningJobEvent]) -> None:
    metrics = _metrics(events)
    losses = [data["train_loss"] for data in metrics]
    if not metrics:
        watch.update(events[-1].message if events else job.status)
        return
    last = metrics[-1]
    watch.update(events[-1].message, done=last["step"], total=last["total_steps"], curve=losses)


def _events(connection: Connection, job_id: str) -> list[FineTuningJobEvent]:
    """All events so far, oldest first; a job of the demonstration has fewer than one page."""
    page = connection.openai.fine_tuning.jobs.list_events(job_id, limit=100)
    return list(reversed(page.data))


def _metrics(events: list[FineTuningJobEvent]) -> list[dict[str, Any]]:
    return [
        event.data
        for event in events
        if event.type == "metrics" and isinstance(event.data, dict) and "train_loss" in event.data
    ]
