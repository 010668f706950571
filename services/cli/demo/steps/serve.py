"""Step 5: traffic over both doors; its outcomes become the baseline of the drift monitor."""

from __future__ import annotations

from services.cli.demo.demonstration import POLICY, Demonstration
from services.cli.demo.listings import World
from services.cli.demo.summary import StepRecord
from services.cli.demo.traffic import share_right
from services.cli.waiting import wait_for

NAME = "two doors"
TITLE = "traffic over both doors"
_QUEUED_REQUESTS = 8
_QUEUE_TIMEOUT_SECONDS = 90.0
_BASELINE_TIMEOUT_SECONDS = 20.0


def run(demo: Demonstration, record: StepRecord) -> None:
    wanted = POLICY["drift"]["baseline_outcomes"]
    with record.timed("serving"):
        with demo.screen.watch("queue") as watch:
            watch.update(f"{_QUEUED_REQUESTS} requests into inference.door.{demo.project}")
            asked = list(demo.traffic.bodies(World.FAMILIAR, _QUEUED_REQUESTS))
            queued = demo.bus.ask(demo.project, asked, timeout_seconds=_QUEUE_TIMEOUT_SECONDS)
            for answer in queued:
                demo.traffic.tell(answer)
            watch.update(f"{len(queued)} answers, {share_right(queued):.0%} right")
        with demo.screen.watch("http") as watch:
            watch.update("POST /v1/chat/completions")
            over_http = demo.traffic.drive(
                World.FAMILIAR, most=wanted - len(queued), hear=demo.traffic.tell
            )
            watch.update(f"{len(over_http)} answers, {share_right(over_http):.0%} right")
    answers = [*queued, *over_http]
    record.requests += len(answers)
    record.accuracy["live"] = share_right(answers)
    record.facts |= {"over_http": len(over_http), "over_the_queue": len(queued)}
    baseline = wait_for(
        f"the baseline of {wanted} outcomes",
        lambda: _baseline(demo),
        timeout_seconds=_BASELINE_TIMEOUT_SECONDS,
    )
    demo.screen.say(f"baseline pinned: {baseline['mean']:.0%} failures in {baseline['n']} outcomes")


def _baseline(demo: Demonstration) -> dict[str, float] | None:
    for monitor in demo.connection.get("monitors", workload=demo.workload)["data"]:
        if monitor["metric"] == "failure" and monitor["closed_at"] is None:
            baseline: dict[str, float] | None = monitor["baseline"]
            return baseline
    return None
