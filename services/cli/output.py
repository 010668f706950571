"""What a command prints: a table for people, or the API's own JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

# Where no terminal gives the width, lines are cut for nobody.
_PLAIN_WIDTH = 240


def make_console(*, stderr: bool = False) -> Console:
    """For text that holds ids and values: whatever they contain, it is no markup."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PLAIN_WIDTH
    return Console(stderr=stderr, highlight=False, markup=False, width=width)


console = make_console()


def write_json(value: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_line(value: object) -> None:
    """One JSON document in one line, for streams."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def write_rows(
    rows: Sequence[Mapping[str, Any]], columns: Iterable[str], *, as_json: bool, empty: str
) -> None:
    """
    A list of the API.

    Args:
        rows: As the API gave them.
        columns: Fields to show, `created_at` and other times as UTC.
        as_json: Print all fields as JSON instead.
        empty: The sentence that stands for no rows.
    """
    if as_json:
        write_json(list(rows))
        return
    if not rows:
        console.print(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(Text(shown(name, row.get(name))) for name in columns))
    console.print(table)


def write_object(value: Mapping[str, Any], *, as_json: bool) -> None:
    """One object of the API, field by field; what is not known is left out."""
    if as_json:
        write_json(value)
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, field in value.items():
        if field is not None and field not in ("", [], {}):
            table.add_row(Text(name.replace("_", " ")), Text(shown(name, field)))
    console.print(table)


def shown(name: str, value: object) -> str:
    """A field's value for people."""
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool) and is_time(name):
        return moment(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def is_time(name: str) -> bool:
    return name.endswith("_at") or name in {"created", "since", "deadline"}


def moment(seconds: int) -> str:
    """A Unix time as date and time, UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
