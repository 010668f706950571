"""Step 3: is it better? Base and tuned model on held-out rows, and the gate's verdict."""

from __future__ import annotations

from typing import Any

from services.cli.demo.demonstration import BASE_MODEL, Demonstration
from services.cli.demo.screen import Screen, interval
from services.cli.demo.summary import StepRecord
from services.cli.demo.waiting import wait_for
from services.cli.errors import CommandFailed

NAME = "evaluation"
TITLE = "evaluation and gate"
_TIMEOUT_SECONDS = 600.0


def run(demo: Demonstration, record: StepRecord) -> None:
    started = demo.connection.post(
        "evaluations",
        body={
            "model": demo.model,
            "baseline": BASE_MODEL,
            "file_id": demo.files["held_out"],
            "workload": demo.workload,
        },
    )
    with record.timed("serving"):
        demo.evaluation = follow(demo, started["id"])
    demo.summary.ids["evaluation"] = demo.evaluation["id"]
    if demo.evaluation["verdict"] != "pass":
        raise CommandFailed(f"The gate said no: {demo.evaluation['reason']}")
    metrics = demo.evaluation["metrics"]
    record.accuracy = {
        "base": metrics["baseline"]["exact_match"]["estimate"],
        "tuned": metrics["candidate"]["exact_match"]["estimate"],
    }
    record.facts["held_out_rows"] = demo.evaluation["cases"]


def follow(demo: Demonstration, evaluation_id: str) -> dict[str, Any]:
    """
    Wait for an evaluation and show it.

    Raises:
        CommandFailed: It failed or took too long.
    """

    def ended() -> dict[str, Any] | None:
        found = demo.connection.get("evaluations", evaluation_id)
        watch.update(f"{evaluation_id} on {found['cases']} rows: {found['state']}")
        return found if found["state"] in {"completed", "failed"} else None

    with demo.screen.watch("evaluation") as watch:
        found = wait_for(f"evaluation {evaluation_id}", ended, timeout_seconds=_TIMEOUT_SECONDS)
    if found["state"] == "failed":
        raise CommandFailed(f"Evaluation {evaluation_id} failed: {found['reason']}")
    show(demo.screen, found)
    return found


def show(screen: Screen, evaluation: dict[str, Any]) -> None:
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
