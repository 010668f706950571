"""Rows to train on, and files of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

import openai
from openai.types import FileObject
from openai.types.fine_tuning import FineTuningJob

BASE = "smollm2-135m-instruct"
ENDED = frozenset({"succeeded", "failed", "cancelled"})

Row = dict[str, Any]

_COLOURS = ("amber", "blue", "coral", "denim", "ebony", "flax", "green", "hazel")
_THINGS = ("chair", "lamp", "table", "shelf")


def rows(count: int = 16) -> list[Row]:
    """Different questions with a short answer each, at most 32."""
    return [
        chat(f"Code of {colour} {thing}?", f"{colour[:2]}-{thing[:2]}".upper())
        for thing in _THINGS
        for colour in _COLOURS
    ][:count]


def chat(question: str, answer: str, **of_answer: object) -> Row:
    """One question and its answer; further fields go into the answer's message."""
    answered = {"role": "assistant", "content": answer, **of_answer}
    return {"messages": [{"role": "user", "content": question}, answered]}


def jsonl(lines: Iterable[object]) -> bytes:
    """A file's bytes; what is bytes already is a line as it stands."""
    return (
        b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
        + b"\n"
    )


def upload(
    client: openai.OpenAI, content: bytes | None = None, name: str = "rows.jsonl"
) -> FileObject:
    """A training file; by default a good one."""
    given = jsonl(rows()) if content is None else content
    return client.files.create(file=(name, given), purpose="fine-tune")


def tuned(
    client: openai.OpenAI,
    training: Iterable[object],
    validation: Iterable[object],
    *,
    epochs: int,
    suffix: str,
) -> FineTuningJob:
    """A job on these rows that has succeeded, four rows a step."""
    made = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=upload(client, jsonl(training)).id,
        validation_file=upload(client, jsonl(validation), "validation.jsonl").id,
        suffix=suffix,
        seed=7,
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": epochs, "batch_size": 4}},
        },
    )
    job = ended(client, made.id)
    assert job.status == "succeeded", job.error
    assert job.fine_tuned_model
    return job


def ended(client: openai.OpenAI, job_id: str, seconds: float = 600) -> FineTuningJob:
    """The job, once it has ended."""
    deadline = time.monotonic() + seconds
    while (job := client.fine_tuning.jobs.retrieve(job_id)).status not in ENDED:
        assert time.monotonic() < deadline, f"{job_id} is {job.status} after {seconds:.0f} s"
        time.sleep(0.2)
    return job


def reached(client: openai.OpenAI, job_id: str, status: str, seconds: float = 300) -> FineTuningJob:
    """The job, once it has a status; it must not end before."""
    deadline = time.monotonic() + seconds
    while (job := client.fine_tuning.jobs.retrieve(job_id)).status != status:
        assert job.status not in ENDED, f"{job_id} is {job.status}, not {status}: {job.error}"
        assert time.monotonic() < deadline, f"{job_id} is {job.status}, not {status}"
        time.sleep(0.1)
    return job
