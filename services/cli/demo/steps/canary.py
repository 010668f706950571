"""Traffic on a canary until it is decided."""

from __future__ import annotations

from typing import Any, Literal

from services.cli.demo.demonstration import Demonstration
from services.cli.demo.listings import World
from services.cli.demo.summary import StepRecord
from services.cli.errors import CommandFailed
from services.cli.screen import Watch, percent
from services.cli.waiting import wait_for

_LOAD_TIMEOUT_SECONDS = 120.0
_DECIDE_TIMEOUT_SECONDS = 20.0
_MOST_REQUESTS = 90


def start(demo: Demonstration, model: str, **gate: Any) -> str:  # noqa: ANN401 - fields of a release
    """Ask for a release; *gate* is an evaluation or an override."""
    body = {"workload": demo.workload, "model": model, **gate}
    release = demo.connection.post("releases", body=body)
    demo.screen.say(f"release {release['id']} of {model}: {release['state']}")
    return str(release["id"])


def follow(
    demo: Demonstration,
    record: StepRecord,
    release_id: str,
    world: World,
    *,
    wanted: Literal["live", "rolled_back"],
) -> dict[str, Any]:
    """
    Send traffic with feedback until the release has left its canary, and not longer.

    Returns:
        The release as it was decided.

    Raises:
        CommandFailed: It was decided otherwise, or not at all.
    """

    def settled() -> bool:
        found = demo.connection.get("releases", release_id)
        _show(watch, found)
        return found["state"] not in {"gated", "canary"}

    with demo.screen.watch("canary") as watch:
        _await_canary(demo, release_id)
        with record.timed("serving"):
            answers = demo.traffic.drive(
                world, most=_MOST_REQUESTS, until=settled, hear=demo.traffic.tell
            )
        record.requests += len(answers)
        wait_for(
            f"the verdict on release {release_id}",
            lambda: settled() or None,
            timeout_seconds=_DECIDE_TIMEOUT_SECONDS,
        )
    release = demo.connection.get("releases", release_id)
    _record(record, release)
    demo.screen.say(f"{release['state'].replace('_', ' ')}: {release['reason']}", "bold")
    demo.screen.say(f"guarantee: {release['guarantee']}", "dim")
    if release["state"] != wanted:
        raise CommandFailed(
            f"Release {release_id} is {release['state']}, not {wanted}: {release['reason']}"
        )
    return release


def _await_canary(demo: Demonstration, release_id: str) -> None:
    def begun() -> bool | None:
        state = demo.connection.get("releases", release_id)["state"]
        return True if state not in {"candidate", "gated"} else None

    wait_for(f"release {release_id} to be loaded", begun, timeout_seconds=_LOAD_TIMEOUT_SECONDS)


def _show(watch: Watch, release: dict[str, Any]) -> None:
    arms, evidence = release["outcomes"], release["evidence"]
    if not arms or not evidence:
        watch.update(release["state"])
        return
    watch.update(
        f"{release['share']:.0%} of the users",
        *(
            f"{name:8}{arm['count']:3} outcomes, {percent(arm['rate']):>4} right"
            for name, arm in arms.items()
        ),
        f"evidence for promotion {evidence['e_promote']:.1f} of {evidence['promote_threshold']:.0f}"
        f", for rollback {evidence['e_rollback']:.1f} of {evidence['rollback_threshold']:.0f}",
    )


def _record(record: StepRecord, release: dict[str, Any]) -> None:
    canary, control = release["outcomes"]["canary"], release["outcomes"]["control"]
    record.facts["canary_outcomes"] = canary["count"]
    record.facts["control_outcomes"] = control["count"]
    for name, arm in (("live", control), ("canary", canary)):
        if arm["rate"] is not None:
            record.accuracy[name] = arm["rate"]
