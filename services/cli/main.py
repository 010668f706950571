"""`perpetune`: the commands and where they are sent."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from typing import Annotated, Any

import typer

from services.cli.commands import (
    alerts,
    audit,
    cycles,
    dead_letters,
    demo,
    events,
    imports,
    jobs,
    keys,
    releases,
    retirements,
    stack,
    workloads,
)
from services.cli.connection import Connection
from services.cli.errors import CommandFailed, told
from services.cli.output import AsJson, console, write_json


class _Terminal(typer.Typer):
    """Reports what fails in one line on standard error; the exit code is 1."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as typer's own
        try:
            with told():
                return super().__call__(*args, **kwargs)
        except CommandFailed as error:
            sys.stderr.write(f"{error}\n")
            sys.exit(1)


app = _Terminal(
    name="perpetune",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Keeps fine-tuned language models tuned.",
)


@app.callback()
def connect(
    ctx: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(help="Address of the API (PERPETUNE_URL); by default the local stack's."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="API key (PERPETUNE_API_KEY); by default the local stack's first one."),
    ] = None,
) -> None:
    """Keeps fine-tuned language models tuned."""
    ctx.obj = Connection(url, key)


@app.command()
def version(*, as_json: AsJson = False) -> None:
    """Print the version."""
    number = installed_version("perpetune")
    if as_json:
        write_json({"version": number})
    else:
        console.print(number)


app.command("up")(stack.up)
app.command("status")(stack.status)
app.command("demo")(demo.demo)
app.command("cycles")(cycles.cycles)
app.command("alerts")(alerts.alerts)
app.command("events")(events.events)
app.add_typer(audit.app, name="audit")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(keys.app, name="key")
app.add_typer(imports.app, name="import")
app.add_typer(jobs.app, name="jobs")
app.add_typer(releases.app, name="releases")
app.add_typer(workloads.app, name="workloads")
app.add_typer(retirements.app, name="retirements")

if __name__ == "__main__":
    app()
