"""`perpetune workloads`: what models do for you, by name, and what else they answer to."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from services.cli.connection import Connection
from services.cli.output import AsJson, write_object, write_rows
from services.cli.waiting import wait_for

app = typer.Typer(no_args_is_help=True, help="Workloads and the names they answer to.")

# It takes a second or two, and longer where every worker is busy.
_LIVE_SECONDS = 60.0
_COLUMNS = ("name", "aliases", "base_model", "policy_version", "created_at")


@app.command("list")
def list_workloads(ctx: typer.Context, *, as_json: AsJson = False) -> None:
    """List workloads, newest first."""
    connection: Connection = ctx.obj
    rows = list(connection.pages("workloads"))
    write_rows(rows, _COLUMNS, as_json=as_json, empty="There is no workload yet.")


@app.command()
def show(ctx: typer.Context, workload: str, *, as_json: AsJson = False) -> None:
    """Show a workload with its policy, by name, alias or id."""
    connection: Connection = ctx.obj
    write_object(connection.get("workloads", workload), as_json=as_json)


@app.command()
def create(
    ctx: typer.Context,
    name: str,
    base: Annotated[str, typer.Option(help="Answers until a release is promoted.")],
    alias: Annotated[
        list[str] | None, typer.Option(help="What else it answers to; may be repeated.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Make a workload with the default policy, and wait until its base answers under its name."""
    connection: Connection = ctx.obj
    body = {"name": name, "base_model": base, "aliases": alias or []}
    made = connection.post("workloads", body=body)
    wait_for(
        f"'{name}' to be answered by its base",
        lambda: _live(connection, made["id"]),
        timeout_seconds=_LIVE_SECONDS,
    )
    write_object(made, as_json=as_json)


@app.command()
def alias(
    ctx: typer.Context,
    workload: str,
    aliases: Annotated[
        list[str] | None, typer.Argument(help="All it answers to beside its name; none by default.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Replace the aliases of a workload, for example by the ids of older fine-tunes."""
    connection: Connection = ctx.obj
    body = {"aliases": aliases or []}
    write_object(connection.put("workloads", workload, "aliases", body=body), as_json=as_json)


def _live(connection: Connection, workload: str) -> dict[str, Any] | None:
    releases = connection.get("releases", workload=workload)["data"]
    return next((each for each in releases if each["state"] == "live"), None)
