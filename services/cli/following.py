"""Files, jobs and evaluations, watched until something is known of them."""

from __future__ import annotations

import time
from typing import Any

from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

from services.cli.connection import Connection, Json
from services.cli.errors import CommandFailed
from services.cli.screen import Screen, Watch, interval
from services.cli.waiting import POLL_SECONDS, wait_for

_CHECK_TIMEOUT_SECONDS = 60.0


def checked_file(connection: Connection, file_id: str) -> Json:
    """
    What the checks say about an uploaded file, once they have passed.

    Raises:
        CommandFailed: They did not pass, and the first error with its line; or they took too long.
    """

    def checked() -> Json | None:
        report = connection.get("files", file_id, "report")
        return report if report["gate"] != "pending" else None

    report = wait_for(
        f"the checks of file {file_id}", checked, timeout_seconds=_CHECK_TIMEOUT_SECONDS
    )
    if report["gate"] == "fail":
        first = next(found for found in report["findings"] if found["severity"] == "error")
        raise CommandFailed(
            f"The data did not pass the checks. Line {first['line']}: {first['message']} "
            f"{first['fix']}"
        )
    return report


def watch_job(
    connection: Connection, watch: Watch, job_id: str, *, running: bool, timeout_seconds: float
) -> FineTuningJob:
    """
    The job when it has ended or, with *running* false, when it runs; steps and losses are shown.

    Raises:
        CommandFailed: It took too long.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        job = connection.openai.fine_tuning.jobs.retrieve(job_id)
        _show_job(watch, job, _events(connection, job_id))
        if job.status in {"succeeded", "failed", "cancelled"}:
            return job
        if job.status == "running" and not running:
            return job
        if time.monotonic() >= deadline:
            raise CommandFailed(
                f"Waited {timeout_seconds:.0f} s for job {job_id}; it is still {job.status}."
            )
        time.sleep(POLL_SECONDS)


def model_of(job: FineTuningJob) -> str:
    """
    The model that an ended job made.

    Raises:
        CommandFailed: It made none.
    """
    if job.status != "succeeded" or not job.fine_tuned_model:
        why = f"{job.error.code}: {job.error.message}" if job.error else "no reason given"
        raise CommandFailed(f"Job {job.id} ended {job.status} ({why}).")
    return job.fine_tuned_model


def losses_of(connection: Connection, job_id: str) -> list[float]:
    """Training losses of the newest steps, at most a page of events, oldest first."""
    return _losses(_events(connection, job_id))


def watch_evaluation(
    connection: Connection, screen: Screen, evaluation_id: str, *, timeout_seconds: float
) -> Json:
    """
    The completed evaluation.

    Raises:
        CommandFailed: It failed or took too long.
    """

    def ended() -> Json | None:
        found = connection.get("evaluations", evaluation_id)
        watch.update(f"{evaluation_id} on {found['cases']} rows: {found['state']}")
        return found if found["state"] in {"completed", "failed"} else None

    with screen.watch("evaluation") as watch:
        found = wait_for(f"evaluation {evaluation_id}", ended, timeout_seconds=timeout_seconds)
    if found["state"] == "failed":
        raise CommandFailed(f"Evaluation {evaluation_id} failed: {found['reason']}")
    return found


def show_evaluation(screen: Screen, evaluation: Json) -> None:
    """Both sides with their intervals, and the gate rule by rule."""
    metrics = evaluation["metrics"]
    sides = [side for side in (metrics["baseline"], metrics["candidate"]) if side is not None]
    heads = ("baseline", "candidate")[-len(sides) :]
    rows = [("exact match", *(interval(side["exact_match"]) for side in sides))]
    rows += [
        (f"  {name}", *(interval(side["fields"].get(name)) for side in sides))
        for name in sides[-1]["fields"]
    ]
    for label, name in (
        ("perplexity of targets", "target_perplexity"),
        ("perplexity of general text", "general_perplexity"),
    ):
        rows.append((label, *(interval(side[name], ".2f") for side in sides)))
    screen.table(("95 % intervals", *heads), rows)
    for rule in evaluation["rules"]:
        mark = "pass" if rule["passed"] else "FAIL"
        screen.say(f"{mark}  {rule['rule']}: {rule['sentence']}")
    screen.say(f"gate: {evaluation['verdict']}", "bold")


def _show_job(watch: Watch, job: FineTuningJob, events: list[FineTuningJobEvent]) -> None:
    metrics = _metrics(events)
    if not metrics:
        watch.update(events[-1].message if events else job.status)
        return
    last = metrics[-1]
    watch.update(
        events[-1].message, done=last["step"], total=last["total_steps"], curve=_losses(events)
    )


def _events(connection: Connection, job_id: str) -> list[FineTuningJobEvent]:
    """The newest page of events, oldest first."""
    page = connection.openai.fine_tuning.jobs.list_events(job_id, limit=100)
    return list(reversed(page.data))


def _losses(events: list[FineTuningJobEvent]) -> list[float]:
    return [data["train_loss"] for data in _metrics(events)]


def _metrics(events: list[FineTuningJobEvent]) -> list[dict[str, Any]]:
    return [
        event.data
        for event in events
        if event.type == "metrics" and isinstance(event.data, dict) and "train_loss" in event.data
    ]
