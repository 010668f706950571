"""`perpetune up` and `perpetune status`."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import typer

from infra.local.stack import Stack
from services.cli.connection import Connection
from services.cli.output import AsJson, console, write_json, write_line, write_rows

_OF_PROCESS = ("name", "state", "pid", "seconds")
_OF_WORKLOAD = ("name", "live_model", "canary", "retraining", "alerts")
_OF_RETIREMENT = ("model", "shutdown_date", "days_left", "workloads")
# As long ahead as an end is announced first.
_SOON_DAYS = 90


def up(ctx: typer.Context, *, as_json: AsJson = False) -> None:
    """Start the local stack in the foreground; Ctrl-C stops what it started."""
    connection: Connection = ctx.obj
    stack = Stack(connection.local)
    with contextlib.suppress(KeyboardInterrupt), stack.running(_say):
        ready = {
            "url": stack.settings.gateway_url,
            "api_key": Connection(stack.settings.gateway_url).key,
            "started": stack.is_ours,
        }
        if as_json:
            write_line(ready)
        else:
            console.print(f"Ready on {ready['url']}")
            console.print(f"API key  {ready['api_key']}")
            console.print("Ctrl-C stops it" if stack.is_ours else "It was running already")
        if stack.is_ours:
            stack.wait()


def status(ctx: typer.Context, *, as_json: AsJson = False) -> None:
    """Say whether the API is ready, which processes run, where workloads stand, what ends soon."""
    connection: Connection = ctx.obj
    readiness = connection.readiness()
    is_ready = readiness["status"] == "ready"
    report = {
        "url": connection.url,
        "status": readiness["status"],
        "missing": readiness["missing"],
        "processes": _processes(connection),
        "workloads": _workloads(connection) if is_ready else [],
        "retirements": _retirements(connection) if is_ready else [],
    }
    if as_json:
        write_json(report)
    else:
        _write_status(report)
    if not is_ready:
        raise typer.Exit(1)


def _write_status(report: dict[str, Any]) -> None:
    console.print(f"{report['url']} is {report['status'].replace('_', ' ')}")
    for sentence in report["missing"]:
        console.print(f"  {sentence}")
    if report["processes"]:
        write_rows(report["processes"], _OF_PROCESS, as_json=False, empty="")
    if report["status"] == "ready":
        write_rows(
            report["workloads"], _OF_WORKLOAD, as_json=False, empty="There is no workload yet."
        )
    if report["retirements"]:
        console.print(f"Models that end within {_SOON_DAYS} days")
        write_rows(report["retirements"], _OF_RETIREMENT, as_json=False, empty="")


def _processes(connection: Connection) -> list[dict[str, Any]]:
    if not connection.is_local:
        return []
    return [
        {"name": one.name, "state": one.state, "pid": one.pid, "seconds": one.seconds}
        for one in Stack(connection.local).status()
    ]


def _retirements(connection: Connection) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = connection.get("retirements", within_days=_SOON_DAYS)["data"]
    return rows


def _workloads(connection: Connection) -> list[dict[str, Any]]:
    return [_workload(connection, row["name"]) for row in connection.pages("workloads")]


def _workload(connection: Connection, name: str) -> dict[str, Any]:
    releases = connection.get("releases", workload=name, limit=20)["data"]
    cycles = connection.get("workloads", name, "cycles", limit=1)["data"]
    by_state = {row["state"]: row for row in reversed(releases)}
    canary = by_state.get("canary")
    waiting = cycles[0]["waits_for"] if cycles else None
    return {
        "name": name,
        "live_model": by_state["live"]["model"] if "live" in by_state else None,
        "canary": f"{canary['model']} at {canary['share']:.0%}" if canary else None,
        "retraining": f"{cycles[0]['step']}: {waiting}" if waiting else None,
        "alerts": len(connection.get("alerts", workload=name, limit=100)["data"]),
    }


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
