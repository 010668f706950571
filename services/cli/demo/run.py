"""The demonstration from the first step to the summary."""

from __future__ import annotations

from collections.abc import Callable

from services.cli.demo.demonstration import Demonstration
from services.cli.demo.listings import World
from services.cli.demo.steps import (
    drift,
    evaluate,
    prepare,
    release,
    retrain,
    rollback,
    serve,
    train,
)
from services.cli.demo.summary import COLUMNS, StepRecord, Summary
from services.cli.errors import CommandFailed, told

Step = Callable[[Demonstration, StepRecord], None]

STEPS: tuple[tuple[str, str, Step], ...] = (
    (prepare.NAME, prepare.TITLE, prepare.run),
    (train.NAME, train.TITLE, train.run),
    (evaluate.NAME, evaluate.TITLE, evaluate.run),
    (release.NAME, release.TITLE, release.run),
    (serve.NAME, serve.TITLE, serve.run),
    (drift.NAME, drift.TITLE, drift.run),
    (retrain.NAME, retrain.TITLE, retrain.run),
    (rollback.NAME, rollback.TITLE, rollback.run),
)
_NEEDS_CHANGED_WORLD = {drift.run, retrain.run}
_SKIPPED = "a file knows no changed world; without --data it is generated"


def run(demo: Demonstration) -> Summary:
    """
    All steps in order.

    Raises:
        CommandFailed: A step failed; the message names it.
    """
    for number, (name, title, step) in enumerate(STEPS, 1):
        demo.screen.step(number, len(STEPS), title)
        with demo.summary.step(number, name) as record:
            if step in _NEEDS_CHANGED_WORLD and World.CHANGED not in demo.material.worlds:
                record.skipped = _SKIPPED
                demo.screen.say(f"skipped: {_SKIPPED}")
                continue
            try:
                with told():
                    step(demo, record)
            except CommandFailed as error:
                raise CommandFailed(f"Step {number} ({title}) failed. {error}") from error
    _show(demo)
    return demo.summary


def _show(demo: Demonstration) -> None:
    demo.screen.end("")
    demo.screen.table(COLUMNS, demo.summary.rows(), title="Summary")
    demo.screen.end(f"What happened and why:  {demo.summary.audit_command}", "bold")
