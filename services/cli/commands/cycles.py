"""`perpetune cycles`: where is my retraining?"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from services.cli.connection import Connection
from services.cli.output import AsJson, write_rows

_COLUMNS = ("id", "workload", "step", "state", "since", "waits_for", "outcome", "reason")


def cycles(
    ctx: typer.Context,
    workload: Annotated[
        str | None, typer.Argument(help="Name, alias or id; all workloads by default.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Where is my retraining? Every cycle's step, what it waits for, and how it ended."""
    connection: Connection = ctx.obj
    names = [workload] if workload else [row["name"] for row in connection.pages("workloads")]
    rows: list[dict[str, Any]] = [
        row for name in names for row in connection.get("workloads", name, "cycles")["data"]
    ]
    write_rows(rows, _COLUMNS, as_json=as_json, empty="There was no retraining yet.")
