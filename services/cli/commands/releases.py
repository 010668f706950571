"""`perpetune releases`: what answers, what is tried, and what was taken back."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.connection import Connection
from services.cli.output import AsJson, console, write_json, write_object, write_rows

app = typer.Typer(no_args_is_help=True, help="Releases of models.")

_COLUMNS = ("id", "workload", "model", "state", "share", "reason", "created_at", "settled_at")


@app.command("list")
def list_releases(
    ctx: typer.Context,
    workload: Annotated[str | None, typer.Option(help="Only of this workload.")] = None,
    limit: Annotated[int, typer.Option(help="Most rows to print.", min=1, max=100)] = 20,
    *,
    as_json: AsJson = False,
) -> None:
    """List releases, newest first."""
    connection: Connection = ctx.obj
    rows = connection.get("releases", workload=workload, limit=limit)["data"]
    write_rows(rows, _COLUMNS, as_json=as_json, empty="There is no release yet.")


@app.command()
def show(ctx: typer.Context, release: str, *, as_json: AsJson = False) -> None:
    """Show a release with its evidence and every decision about it."""
    connection: Connection = ctx.obj
    found = connection.get("releases", release)
    decisions = connection.get("releases", release, "decisions")["data"]
    if as_json:
        write_json({**found, "decisions": decisions})
        return
    write_object(found, as_json=False)
    console.print()
    columns = ("created_at", "verdict", "share", "reason", "actor")
    write_rows(decisions, columns, as_json=False, empty="Nothing was decided yet.")


@app.command()
def start(
    ctx: typer.Context,
    workload: str,
    model: str,
    evaluation: Annotated[
        str | None, typer.Option(help="Id of one the model passed; this or --override.")
    ] = None,
    override: Annotated[
        str | None, typer.Option(help="Why it may be tried all the same; kept and audited.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Put a model before a workload's traffic: gated now, a canary once it is loaded."""
    connection: Connection = ctx.obj
    body = {
        "workload": workload,
        "model": model,
        "evaluation_id": evaluation,
        "override": {"reason": override} if override else None,
    }
    write_object(connection.post("releases", body=body), as_json=as_json)


@app.command()
def rollback(
    ctx: typer.Context,
    release: str,
    reason: Annotated[str, typer.Option(help="Kept with the release and in the audit log.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Take a release back; a live one gives way to the one before it."""
    connection: Connection = ctx.obj
    settled = connection.post("releases", release, "rollback", body={"reason": reason})
    if as_json:
        write_json(settled)
    else:
        console.print(f"{settled['id']} is {settled['state'].replace('_', ' ')}")
