"""`perpetune audit`: what happened, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.commands import audit_proofs
from services.cli.connection import Connection
from services.cli.output import AsJson, write_rows

app = typer.Typer(invoke_without_command=True)
app.command("export")(audit_proofs.export)
app.command("key")(audit_proofs.key)
app.command("verify")(audit_proofs.verify)
app.command("prove")(audit_proofs.prove)

_COLUMNS = ("created_at", "actor", "action", "subject", "reason")


@app.callback()
def audit(
    ctx: typer.Context,
    subject: Annotated[str | None, typer.Option(help="Id of what it is about.")] = None,
    action: Annotated[str | None, typer.Option(help="Beginning, such as `release.`.")] = None,
    actor: Annotated[str | None, typer.Option(help="Who did it.")] = None,
    correlation_id: Annotated[str | None, typer.Option(help="All that one cause led to.")] = None,
    after: Annotated[str | None, typer.Option(help="Id of the last entry read.")] = None,
    limit: Annotated[int, typer.Option(help="Most rows to print.", min=1, max=100)] = 50,
    *,
    oldest: Annotated[bool, typer.Option("--oldest", help="Oldest first.")] = False,
    as_json: AsJson = False,
) -> None:
    """List audit entries, and show that nobody changed them."""
    if ctx.invoked_subcommand:
        return
    connection: Connection = ctx.obj
    rows = connection.get(
        "audit",
        subject=subject,
        action=action,
        actor=actor,
        correlation_id=correlation_id,
        after=after,
        limit=limit,
        order="asc" if oldest else "desc",
    )["data"]
    write_rows(rows, _COLUMNS, as_json=as_json, empty="No entry.")
