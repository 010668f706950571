"""`perpetune key`: API keys."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.connection import Connection
from services.cli.output import AsJson, console, write_json, write_rows
from shared.scopes import SCOPES

app = typer.Typer(no_args_is_help=True, help="Show, make, list and revoke API keys.")


@app.command()
def show(ctx: typer.Context, *, as_json: AsJson = False) -> None:
    """Print the key that the commands use."""
    connection: Connection = ctx.obj
    if as_json:
        write_json({"url": connection.url, "api_key": connection.key})
    else:
        console.print(connection.key)


@app.command()
def make(
    ctx: typer.Context,
    name: str,
    scope: Annotated[
        list[str] | None, typer.Option(help="May be repeated; all scopes by default.")
    ] = None,
    days: Annotated[int, typer.Option(help="Days until it expires.", min=1, max=3650)] = 90,
    *,
    as_json: AsJson = False,
) -> None:
    """Make a key; it is shown this once."""
    connection: Connection = ctx.obj
    body = {"name": name, "scopes": scope or sorted(SCOPES), "expires_in_days": days}
    made = connection.post("keys", body=body)
    if as_json:
        write_json(made)
    else:
        console.print(made["key"])


@app.command("list")
def list_keys(ctx: typer.Context, *, as_json: AsJson = False) -> None:
    """List the keys of the project, without their secrets."""
    connection: Connection = ctx.obj
    columns = ("id", "name", "created_at", "expires_at", "revoked_at", "created_by")
    rows = list(connection.pages("keys"))
    write_rows(rows, columns, as_json=as_json, empty="There is no key.")


@app.command()
def revoke(ctx: typer.Context, key_id: str, *, as_json: AsJson = False) -> None:
    """End a key; every door refuses it within a second."""
    connection: Connection = ctx.obj
    ended = connection.delete("keys", key_id)
    if as_json:
        write_json(ended)
    else:
        console.print(f"{ended['id']} is revoked")
