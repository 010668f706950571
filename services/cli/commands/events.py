"""`perpetune events`: the project's public events."""

from __future__ import annotations

import contextlib
import time
from typing import Annotated, Any

import typer

from services.cli.connection import Connection
from services.cli.output import AsJson, console, write_line, write_rows

_COLUMNS = ("time", "type", "subject", "id")
_POLL_SECONDS = 0.5


def events(
    ctx: typer.Context,
    types: Annotated[str, typer.Option(help="Comma-separated; all by default.")] = "",
    after: Annotated[str | None, typer.Option(help="Id of the last event read.")] = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
    as_json: AsJson = False,
) -> None:
    """List public events, oldest first."""
    connection: Connection = ctx.obj
    rows = list(connection.pages("events", after=after, types=types))
    if not follow:
        write_rows(rows, _COLUMNS, as_json=as_json, empty="No event so far.")
        return
    with contextlib.suppress(KeyboardInterrupt):
        _follow(connection, rows, after, types, as_json=as_json)


def _follow(
    connection: Connection,
    rows: list[dict[str, Any]],
    after: str | None,
    types: str,
    *,
    as_json: bool,
) -> None:
    while True:
        for row in rows:
            after = row["id"]
            if as_json:
                write_line(row)
            else:
                console.print("  ".join(str(row[name]) for name in _COLUMNS))
        time.sleep(_POLL_SECONDS)
        rows = list(connection.pages("events", after=after, types=types))
