"""`perpetune dead-letters`: messages that were given up."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from services.cli.connection import Connection
from services.cli.output import AsJson, console, write_json, write_object, write_rows

app = typer.Typer(no_args_is_help=True, help="Messages that were given up.")

_COLUMNS = ("id", "task", "type", "subject", "attempts", "reason", "buried_at")


@app.command("list")
def list_dead_letters(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(help="Most rows to print.", min=1, max=100)] = 20,
    *,
    as_json: AsJson = False,
) -> None:
    """List dead letters, latest first."""
    connection: Connection = ctx.obj
    rows = connection.get("dead-letters", limit=limit)["data"]
    if not as_json:
        rows = [{**row, **_about(row["event"])} for row in rows]
    write_rows(rows, _COLUMNS, as_json=as_json, empty="There is no dead letter.")


def _about(event: Any) -> dict[str, str]:  # noqa: ANN401 - what cannot be read may be any JSON
    known = event if isinstance(event, dict) else {}
    return {name: str(known.get(name, "")) for name in ("type", "subject")}


@app.command()
def show(ctx: typer.Context, letter: str, *, as_json: AsJson = False) -> None:
    """Show a dead letter with its event and its errors."""
    connection: Connection = ctx.obj
    write_object(connection.get("dead-letters", letter), as_json=as_json)


@app.command()
def replay(ctx: typer.Context, letter: str, *, as_json: AsJson = False) -> None:
    """Try a dead letter again, with all its attempts."""
    connection: Connection = ctx.obj
    replayed = connection.post("dead-letters", letter, "replay")
    if as_json:
        write_json(replayed)
    else:
        console.print(f"{letter} is due again as delivery {replayed['id']}")


@app.command()
def discard(
    ctx: typer.Context,
    letter: str,
    reason: Annotated[str, typer.Option(help="Kept in the audit log.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Give a dead letter up for good."""
    connection: Connection = ctx.obj
    discarded = connection.post("dead-letters", letter, "discard", body={"reason": reason})
    if as_json:
        write_json(discarded)
    else:
        console.print(f"{letter} is discarded")
