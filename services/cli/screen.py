"""What people see of something long: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from services.cli.curve import draw

# Where lines stay for good, one every few seconds tells enough.
_PLAIN_SECONDS = 5.0


class Watch:
    """Something under way: a label, how far it is, a note, and a curve where there is one."""

    def __init__(self, console: Console, label: str, live: Live | None) -> None:
        self._console = console
        self._label = label
        self._live = live
        self._begun = time.monotonic()
        self._told = ""
        self._told_at = float("-inf")

    def update(
        self,
        note: str,
        *more: str,
        done: float | None = None,
        total: float | None = None,
        curve: Sequence[float] = (),
    ) -> None:
        """
        Show where it is now.

        Args:
            note: One line.
            more: Further lines.
            done: How far; no bar without it and *total*.
            total: Where it ends.
            curve: Values so far.
        """
        if self._live is not None:
            self._live.update(self._panel(note, more, done, total, curve))
            return
        note = "; ".join((note, *more))
        now = time.monotonic()
        is_end = total is not None and done == total
        if note != self._told and (is_end or now - self._told_at >= _PLAIN_SECONDS):
            self._told, self._told_at = note, now
            self._console.print(f"  {self._label}: {note}")

    def _panel(
        self,
        note: str,
        more: Sequence[str],
        done: float | None,
        total: float | None,
        curve: Sequence[float],
    ) -> RenderableType:
        line = Table.grid(padding=(0, 1))
        cells: list[RenderableType] = [Text(f"  {self._label}", style="bold")]
        if done is not None and total:
            cells.append(ProgressBar(total=total, completed=done, width=30))
        cells.append(Text(f"{time.monotonic() - self._begun:5.1f} s", style="dim"))
        cells.append(Text(note))
        line.add_row(*cells)
        lines = [*more, *(draw(curve) if curve else ())]
        return Group(line, *(Text(f"    {each}", style="cyan") for each in lines))


class Screen:
    """Where it is told, step by step."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def step(self, number: int, of: int, title: str) -> None:
        self._console.print()
        self._console.print(Text(f"Step {number} of {of}: {title}", style="bold green"))

    def say(self, line: str, style: str = "") -> None:
        self._console.print(Text(f"  {line}", style=style))

    def end(self, line: str, style: str = "") -> None:
        """A line at the margin."""
        self._console.print(Text(line, style=style))

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None
    ) -> None:
        table = Table(title=title, box=box.SIMPLE, title_justify="left")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self._console.print(table)

    def curve(self, values: Sequence[float]) -> None:
        """A curve for good; on a terminal the watch has shown it already."""
        if values and not self._console.is_terminal:
            for row in draw(values):
                self._console.print(Text(f"    {row}"))

    @contextmanager
    def watch(self, label: str) -> Iterator[Watch]:
        """Show something while it goes on; its last state stays."""
        if not self._console.is_terminal:
            yield Watch(self._console, label, None)
            return
        with Live(console=self._console, refresh_per_second=8) as live:
            yield Watch(self._console, label, live)


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def interval(estimate: dict[str, float] | None, form: str = ".0%") -> str:
    """A number with its interval: `96 % (80 % to 99 %)`."""
    if estimate is None:
        return "-"
    value, low, high = (format(estimate[name], form) for name in ("estimate", "low", "high"))
    return f"{value} ({low} to {high})"
