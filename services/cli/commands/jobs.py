"""`perpetune jobs`: fine-tuning jobs, by OpenAI's client."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.connection import Connection
from services.cli.output import AsJson, write_object, write_rows

app = typer.Typer(no_args_is_help=True, help="Fine-tuning jobs.")

Limit = Annotated[int, typer.Option(help="Most rows to print.", min=1, max=100)]


@app.command("list")
def list_jobs(ctx: typer.Context, limit: Limit = 20, *, as_json: AsJson = False) -> None:
    """List jobs, newest first."""
    connection: Connection = ctx.obj
    page = connection.openai.fine_tuning.jobs.list(limit=limit)
    rows = [job.model_dump(mode="json") for job in page.data]
    columns = ("id", "status", "model", "fine_tuned_model", "created_at", "finished_at")
    write_rows(rows, columns, as_json=as_json, empty="There is no job yet.")


@app.command()
def show(ctx: typer.Context, job: str, *, as_json: AsJson = False) -> None:
    """Show one job."""
    connection: Connection = ctx.obj
    found = connection.openai.fine_tuning.jobs.retrieve(job)
    write_object(found.model_dump(mode="json"), as_json=as_json)


@app.command()
def events(ctx: typer.Context, job: str, limit: Limit = 100, *, as_json: AsJson = False) -> None:
    """List what happened to a job, oldest first."""
    connection: Connection = ctx.obj
    page = connection.openai.fine_tuning.jobs.list_events(job, limit=limit)
    rows = [event.model_dump(mode="json") for event in reversed(page.data)]
    columns = ("created_at", "level", "message")
    write_rows(rows, columns, as_json=as_json, empty="Nothing happened yet.")


@app.command()
def cancel(ctx: typer.Context, job: str, *, as_json: AsJson = False) -> None:
    """Cancel a job that has not ended."""
    connection: Connection = ctx.obj
    ended = connection.openai.fine_tuning.jobs.cancel(job)
    write_object(ended.model_dump(mode="json"), as_json=as_json)
