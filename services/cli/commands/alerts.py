"""`perpetune alerts`."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.connection import Connection
from services.cli.output import AsJson, write_rows

_COLUMNS = (
    "id",
    "created_at",
    "workload",
    "metric",
    "requests_until_alert",
    "may_retrain",
    "release_id",
)


def alerts(
    ctx: typer.Context,
    workload: Annotated[str | None, typer.Option(help="Only of this workload.")] = None,
    limit: Annotated[int, typer.Option(help="Most rows to print.", min=1, max=100)] = 20,
    *,
    as_json: AsJson = False,
) -> None:
    """List drift alerts, newest first."""
    connection: Connection = ctx.obj
    rows = connection.get("alerts", workload=workload, limit=limit)["data"]
    write_rows(rows, _COLUMNS, as_json=as_json, empty="No alert so far.")
