"""Step 7: corrections come in, and the workload's policy does the rest."""

from __future__ import annotations

from typing import Any

from services.cli.demo.demonstration import POLICY, Demonstration
from services.cli.demo.listings import World
from services.cli.demo.steps import canary, jobs
from services.cli.demo.summary import StepRecord
from services.cli.demo.traffic import Answer, share_right
from services.cli.errors import CommandFailed
from services.cli.following import show_evaluation
from services.cli.waiting import wait_for

NAME = "retraining"
TITLE = "corrections, retraining, and back"
_STEP_TIMEOUT_SECONDS = 120.0
_AFTERWARDS = {World.CHANGED: 8, World.FAMILIAR: 3}


def run(demo: Demonstration, record: StepRecord) -> None:
    cycle = wait_for(
        f"a cycle of {demo.workload}",
        lambda: _cycle(demo),
        timeout_seconds=_STEP_TIMEOUT_SECONDS,
    )
    demo.screen.say(f"cycle {cycle['id']} is open, for alert {cycle['alert_id']}")
    _correct(demo, record)
    cycle = _await(demo, "dataset and job", lambda now: now["job_id"] is not None)
    jobs.follow(demo, record, cycle["job_id"])
    cycle = _await(demo, "evaluation", lambda now: now["model"] is not None)
    with record.timed("serving"):
        cycle = _await(demo, "gate", lambda now: now["evaluation_id"] is not None, seconds=600.0)
    show_evaluation(demo.screen, demo.connection.get("evaluations", cycle["evaluation_id"]))
    cycle = _await(demo, "release", lambda now: now["release_id"] is not None)
    canary.follow(demo, record, cycle["release_id"], World.CHANGED, wanted="live")
    cycle = _await(demo, "cycle", lambda now: now["state"] == "closed", may_close=True)
    demo.model = cycle["model"]
    demo.summary.ids |= {
        "cycle": cycle["id"],
        "retrained_model": cycle["model"],
        "retrained_release": cycle["release_id"],
    }
    demo.screen.say(f"cycle {cycle['id']} closed: {cycle['outcome']}, {cycle['reason']}")
    _look_again(demo, record)


def _cycle(demo: Demonstration) -> dict[str, Any] | None:
    cycles = demo.connection.get("workloads", demo.workload, "cycles", limit=1)["data"]
    return cycles[0] if cycles else None


def _correct(demo: Demonstration, record: StepRecord) -> None:
    """Users correct answers until the policy's number is reached."""
    needed = POLICY["retraining"]["min_corrections"]

    def enough() -> bool:
        cycle = _cycle(demo)
        assert cycle is not None  # `run` waited for it
        watch.update(f"{cycle['corrections']} of {needed}", done=cycle["corrections"], total=needed)
        return bool(cycle["waits_for"] is None or cycle["corrections"] >= needed)

    with demo.screen.watch("corrections") as watch, record.timed("serving"):
        answers = demo.traffic.drive(
            World.CHANGED, most=needed, until=enough, hear=demo.traffic.correct
        )
    record.requests += len(answers)


def _await(
    demo: Demonstration,
    label: str,
    is_there: Any,  # noqa: ANN401 - a predicate of a cycle
    *,
    seconds: float = _STEP_TIMEOUT_SECONDS,
    may_close: bool = False,
) -> dict[str, Any]:
    """The cycle when *is_there*; what it waits for is shown meanwhile."""

    def probe() -> dict[str, Any] | None:
        cycle = _cycle(demo)
        assert cycle is not None  # `run` waited for it
        watch.update(f"waits for {cycle['waits_for']}" if cycle["waits_for"] else "closed")
        if cycle["state"] == "closed" and not may_close:
            raise CommandFailed(f"The cycle ended {cycle['outcome']}: {cycle['reason']}")
        return cycle if is_there(cycle) else None

    with demo.screen.watch(f"cycle: {label}") as watch:
        return wait_for(f"the cycle's {label}", probe, timeout_seconds=seconds)


def _look_again(demo: Demonstration, record: StepRecord) -> None:
    """Accuracy of what is live now, in both worlds."""
    for world, count in _AFTERWARDS.items():
        with record.timed("serving"):
            answers: list[Answer] = demo.traffic.drive(world, most=count, hear=demo.traffic.tell)
        record.requests += len(answers)
        record.accuracy[f"after_{world}"] = share_right(answers)
        demo.screen.say(f"{world} listings: {share_right(answers):.0%} of {len(answers)} right")
