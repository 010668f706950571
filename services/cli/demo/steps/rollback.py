"""Step 8: a broken release, let in by an override, is taken back by itself."""

from __future__ import annotations

from services.cli.demo.demonstration import BASE_MODEL, Demonstration
from services.cli.demo.steps import canary
from services.cli.demo.summary import StepRecord

NAME = "rollback"
TITLE = "a broken release is taken back"
_REASON = "Demonstration: the base model is put before the traffic on purpose."


def run(demo: Demonstration, record: StepRecord) -> None:
    world = demo.material.worlds[-1]
    release_id = canary.start(demo, BASE_MODEL, override={"reason": _REASON})
    demo.summary.ids["broken_release"] = release_id
    canary.follow(demo, record, release_id, world, wanted="rolled_back")
    demo.screen.say(f"{demo.workload} is still answered by {demo.model}")
