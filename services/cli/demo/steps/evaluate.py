"""Step 3: is it better? Base and tuned model on held-out rows, and the gate's verdict."""

from __future__ import annotations

from services.cli.demo.demonstration import BASE_MODEL, Demonstration
from services.cli.demo.summary import StepRecord
from services.cli.errors import CommandFailed
from services.cli.following import show_evaluation, watch_evaluation

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
        demo.evaluation = watch_evaluation(
            demo.connection, demo.screen, started["id"], timeout_seconds=_TIMEOUT_SECONDS
        )
    show_evaluation(demo.screen, demo.evaluation)
    demo.summary.ids["evaluation"] = demo.evaluation["id"]
    if demo.evaluation["verdict"] != "pass":
        raise CommandFailed(f"The gate said no: {demo.evaluation['reason']}")
    metrics = demo.evaluation["metrics"]
    record.accuracy = {
        "base": metrics["baseline"]["exact_match"]["estimate"],
        "tuned": metrics["candidate"]["exact_match"]["estimate"],
    }
    record.facts["held_out_rows"] = demo.evaluation["cases"]
