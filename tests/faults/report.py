"""What the suite found, as a page: a row a fault, with bounds, figures and what was skipped."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Result:
    """
    One fault, or the same fault done to the control.

    Attributes:
        fault: Row of the fault table.
        title: What was done to whom.
        rounds: Instants at which it was done.
        accepted: Commands accepted during the trial.
        unknown: Commands whose sender was not told.
        dead: Accepted commands that became dead letters.
        lost: Accepted commands with no effect at the end.
        doubled: Accepted commands with more than one effect.
        bound_seconds: Recovery has to end within it.
        bound_reason: How it is computed.
        worst_seconds: Slowest recovery.
        notes: Further figures, and limits of the injection.
        contradictions: What must not be; empty when all held.
        skip_reason: Why it could not be injected.
        is_control: Plain Celery, not the spine.
    """

    fault: str
    title: str
    rounds: int = 0
    accepted: int = 0
    unknown: int = 0
    dead: int = 0
    lost: int = 0
    doubled: int = 0
    bound_seconds: float | None = None
    bound_reason: str = ""
    worst_seconds: float | None = None
    notes: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()
    skip_reason: str = ""
    is_control: bool = False

    @classmethod
    def skipped(cls, fault: str, title: str, reason: str) -> Result:
        return cls(fault=fault, title=title, skip_reason=reason)

    @property
    def verdict(self) -> str:
        if self.skip_reason:
            return "skipped"
        return "FAILED" if self.contradictions else "held"

    @property
    def line(self) -> str:
        """For whoever watches the suite run."""
        if self.skip_reason:
            return f"{self.fault} skipped: {self.skip_reason}"
        found = f"{self.rounds} rounds, {self.accepted} accepted, {self.lost} lost"
        parts = [f"{self.fault} {'measured' if self.is_control else self.verdict}", found]
        parts.append(f"{self.doubled} doubled")
        if self.worst_seconds is not None and self.bound_seconds is not None:
            parts.append(f"worst recovery {self.worst_seconds:.1f} of {self.bound_seconds:.1f} s")
        return "; ".join([", ".join(parts), *self.contradictions])


def render(
    results: Sequence[Result],
    *,
    seed: int,
    seconds: float,
    settings: dict[str, object],
    is_full: bool,
) -> str:
    """The report in Markdown."""
    selection = "All rounds" if is_full else "Short selection: each fault once, late ones noted"
    ours = sorted((r for r in results if not r.is_control), key=lambda r: (r.fault, r.title))
    control = sorted((r for r in results if r.is_control), key=lambda r: (r.fault, r.title))
    ran = [r for r in ours if not r.skip_reason]
    lines = [
        "# Faults",
        "",
        (
            f"{selection}. Seed {seed}; commit {_commit()}; "
            f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {_machine()}."
        ),
        (
            f"{len(ran)} trials, {sum(r.rounds for r in ran)} rounds, "
            f"{sum(r.accepted for r in ran)} accepted commands in {seconds / 60:.1f} minutes: "
            f"**{sum(r.lost for r in ran)} lost, {sum(r.doubled for r in ran)} doubled**, "
            f"{sum(bool(r.contradictions) for r in ran)} trials failed, "
            f"{len(ours) - len(ran)} skipped."
        ),
        "",
        "Settings of the suite: "
        + ", ".join(f"`{name}` {value}" for name, value in sorted(settings.items()))
        + ".",
        (
            "*Unknown* are commands whose sender got no answer; they may have taken effect, once. "
            "*Recovery* is from the end of a fault until all that was accepted before it was seen "
            "to be done; nor may any command wait longer outside of faults. The worst of both is "
            "shown. Every trial also checks I1 to I8 (tests/faults/README.md)."
        ),
        "",
        *_table(ours),
        *_section(
            "Bounds",
            (
                f"* {r.fault}: {r.bound_seconds:.1f} s = {r.bound_reason}"
                for r in ran
                if r.bound_seconds is not None
            ),
        ),
        *_section("Notes", (f"* {r.fault} {r.title}: {note}" for r in ran for note in r.notes)),
        *_section(
            "Skipped", (f"* {r.fault} {r.title}: {r.skip_reason}" for r in ours if r.skip_reason)
        ),
        *_section(
            "Contradictions",
            (f"* {r.fault} {r.title}: {text}" for r in ran for text in r.contradictions),
        ),
    ]
    if control:
        lines += [
            "",
            "## Control: plain Celery tasks with our broker settings, without the spine",
            "",
            *_table(control),
            *_section(
                "Notes on the control",
                (f"* {r.fault}: {note}" for r in control for note in r.notes),
            ),
        ]
    return "\n".join(lines) + "\n"


def save(results: Iterable[Result], file: Path) -> None:
    """As JSON lines, for machines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(asdict(result)) + "\n" for result in results))


def _table(results: Sequence[Result]) -> list[str]:
    head = (
        "| fault | done to whom | rounds | accepted | unknown | dead letters | lost | doubled "
        "| bound s | worst recovery s | verdict |"
    )
    return [head, "|" + " --- |" * 11, *(_row(result) for result in results)]


def _row(r: Result) -> str:
    if r.skip_reason:
        return f"| {r.fault} | {r.title} |" + " |" * 8 + " skipped |"
    bound = "" if r.bound_seconds is None else f"{r.bound_seconds:.1f}"
    worst = "" if r.worst_seconds is None else f"{r.worst_seconds:.1f}"
    return (
        f"| {r.fault} | {r.title} | {r.rounds} | {r.accepted} | {r.unknown} | {r.dead} | {r.lost} "
        f"| {r.doubled} | {bound} | {worst} | {'measured' if r.is_control else r.verdict} |"
    )


def _section(title: str, lines: Iterable[str]) -> list[str]:
    found = list(dict.fromkeys(lines))
    return ["", f"## {title}", "", *found] if found else []


def _commit() -> str:
    shown = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return shown.stdout.strip() or "unknown"


def _machine() -> str:
    parts = (
        f"Python {platform.python_version()}",
        f"celery {version('celery')}",
        f"kombu {version('kombu')}",
    )
    return f"{os.cpu_count()} cores, {', '.join(parts)}"
