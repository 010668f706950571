"""Step 4: a canary beside the base, promoted by the sequential test."""

from __future__ import annotations

from services.cli.demo.demonstration import Demonstration
from services.cli.demo.listings import World
from services.cli.demo.steps import canary
from services.cli.demo.summary import StepRecord

NAME = "canary"
TITLE = "canary and promotion"


def run(demo: Demonstration, record: StepRecord) -> None:
    release_id = canary.start(demo, demo.model, evaluation_id=demo.evaluation["id"])
    demo.summary.ids["release"] = release_id
    canary.follow(demo, record, release_id, World.FAMILIAR, wanted="live")
    demo.screen.say(f"{demo.workload} is answered by {demo.model}")
