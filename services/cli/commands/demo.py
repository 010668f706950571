"""`perpetune demo`: the whole loop, once, on this machine."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from infra.local import processes
from infra.local.stack import Stack
from services.cli.connection import Connection
from services.cli.demo import run
from services.cli.demo.bus import Bus
from services.cli.demo.demonstration import Demonstration
from services.cli.demo.listings import INSTRUCTION
from services.cli.demo.material import Material, from_file, generated
from services.cli.demo.summary import Summary
from services.cli.errors import CommandFailed
from services.cli.output import AsJson, make_console, write_json
from services.cli.screen import Screen
from shared.settings import CoreSettings

_ROWS = 160
_SEED = 7
_INTERRUPTED = 130


def demo(
    ctx: typer.Context,
    data: Annotated[
        Path | None, typer.Option(help="Your own rows in OpenAI's chat format, as JSON lines.")
    ] = None,
    rows: Annotated[
        int | None, typer.Option(help=f"Training rows; {_ROWS} by default.", min=10, max=10_000)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of listings, users and training.")] = _SEED,
    *,
    leave: Annotated[
        bool, typer.Option("--exit/--serve", help="End after the demonstration, or keep serving.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Wipe the local state first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the whole loop: train, evaluate, release, serve, watch, retrain, roll back."""
    connection: Connection = ctx.obj
    if not connection.is_local:
        raise CommandFailed(
            f"The demonstration runs on the local stack, and {connection.url} is another server; "
            "leave out --url and PERPETUNE_URL."
        )
    material = _material(data, rows, seed)
    # With --json standard output carries the summary alone.
    screen = Screen(make_console(stderr=as_json))
    stack = Stack(connection.local)
    try:
        with stack.running(lambda line: screen.end(line, "dim"), fresh=fresh):
            _demonstrate(connection, stack, material, screen, seed, as_json=as_json)
            if not leave:
                _keep_serving(connection, stack, screen)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _material(data: Path | None, rows: int | None, seed: int) -> Material:
    if data is None:
        return generated(rows=rows or _ROWS, seed=seed)
    return from_file(data, rows=rows, seed=seed)


def _demonstrate(
    connection: Connection,
    stack: Stack,
    material: Material,
    screen: Screen,
    seed: int,
    *,
    as_json: bool,
) -> None:
    bus_url = processes.environment(stack.settings, stack.home)["PERPETUNE_BUS_URL"]
    demonstration = Demonstration(
        connection=connection,
        material=material,
        bus=Bus(bus_url, CoreSettings().broker_prefix),
        screen=screen,
        summary=Summary(material.source),
        seed=seed,
    )
    summary = run.run(demonstration)
    if as_json:
        write_json(summary.as_json())


def _keep_serving(connection: Connection, stack: Stack, screen: Screen) -> None:
    name = connection.get("workloads", limit=1)["data"][0]["name"]
    url, key = connection.url, connection.key
    screen.end("")
    screen.end(f"URL      {url}", "bold")
    screen.end(f"API key  {key}", "bold")
    screen.end("Three things to try:", "bold")
    for line in _suggestions(url, key, name):
        screen.end(f"  {line}")
    if stack.is_ours:
        screen.end("Ctrl-C stops everything that was started here.", "bold")
        with contextlib.suppress(KeyboardInterrupt):
            stack.wait()
    else:
        screen.end("The stack was running before and goes on.")


def _suggestions(url: str, key: str, workload: str) -> tuple[str, str, str]:
    listing = "Madrid | office | 2,280 m2 | EUR 4.2m | yield 5.1% | 1998"
    messages = [
        {"role": "system", "content": INSTRUCTION},
        {"role": "user", "content": listing},
    ]
    curl = f"curl {url}/v1/models -H 'authorization: Bearer {key}'"
    python = (
        f"python -c \"import openai; print(openai.OpenAI(base_url='{url}/v1', api_key='{key}')"
        f".chat.completions.create(model='{workload}', temperature=0, messages={messages})"
        '.choices[0].message.content)"'
    )
    return curl, python, f"perpetune cycles {workload}"
