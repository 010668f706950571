"""`perpetune retirements`: the days on which models end."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from services.cli.connection import Connection
from services.cli.output import AsJson, console, write_json, write_object, write_rows

app = typer.Typer(no_args_is_help=True, help="The days on which models end.")

_COLUMNS = ("model", "shutdown_date", "days_left", "announced", "workloads")
Model = Annotated[str, typer.Argument(help="Any name, also of a model that is served elsewhere.")]


@app.command("list")
def list_retirements(ctx: typer.Context, *, as_json: AsJson = False) -> None:
    """List models that end, the first one first."""
    connection: Connection = ctx.obj
    rows = connection.get("retirements")["data"]
    write_rows(rows, _COLUMNS, as_json=as_json, empty="No model ends, as far as was said.")


@app.command("set")
def set_date(
    ctx: typer.Context,
    model: Model,
    day: Annotated[
        datetime, typer.Argument(formats=["%Y-%m-%d"], help="It is switched off then, UTC.")
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Say on which day a model ends."""
    connection: Connection = ctx.obj
    body = {"shutdown_date": day.date().isoformat()}
    write_object(connection.put("retirements", model, body=body), as_json=as_json)


@app.command()
def remove(ctx: typer.Context, model: Model, *, as_json: AsJson = False) -> None:
    """Say that a model does not end."""
    connection: Connection = ctx.obj
    removed = connection.delete("retirements", model)
    if as_json:
        write_json(removed)
    else:
        console.print(f"{removed['model']} does not end any more")
