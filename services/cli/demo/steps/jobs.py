"""A fine-tuning job, watched to its end by OpenAI's client."""

from __future__ import annotations

from openai.types.fine_tuning import FineTuningJob

from services.cli.demo.demonstration import Demonstration
from services.cli.demo.summary import StepRecord
from services.cli.following import losses_of, model_of, watch_job
from services.cli.screen import Watch

_TIMEOUT_SECONDS = 1200.0


def follow(demo: Demonstration, record: StepRecord, job_id: str) -> FineTuningJob:
    """
    Show a job's steps and losses until it has succeeded; its running time counts as training.

    Raises:
        CommandFailed: It failed, was cancelled, or took too long.
    """
    with demo.screen.watch("training") as watch:
        job = _until(demo, job_id, watch, running=False)
        with record.timed("training"):
            job = _until(demo, job_id, watch, running=True)
    losses = losses_of(demo.connection, job_id)
    demo.screen.curve(losses)
    model = model_of(job)
    if losses:
        first, last = f"{losses[0]:.3f}", f"{losses[-1]:.3f}"
        demo.screen.say(f"loss {first} -> {last} in {len(losses)} steps")
        record.facts["training_steps"] = len(losses)
    demo.screen.say(f"model {model}")
    return job


def _until(demo: Demonstration, job_id: str, watch: Watch, *, running: bool) -> FineTuningJob:
    return watch_job(
        demo.connection, watch, job_id, running=running, timeout_seconds=_TIMEOUT_SECONDS
    )
