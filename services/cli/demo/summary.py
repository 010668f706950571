"""What the demonstration found out, as numbers and as a table."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Activity = Literal["training", "serving"]


@dataclass
class StepRecord:
    """
    One step.

    Attributes:
        seconds: In all.
        training, serving: Seconds of it in which a job ran, or models answered and were scored;
            what is left of *seconds* was spent waiting and on the rest.
        requests: Inference requests it sent.
        accuracy: What was measured, by name, in the order to show; shares of exact answers.
        facts: Other findings.
        skipped: Why it did not take place, or None.
    """

    number: int
    name: str
    seconds: float = 0.0
    training: float = 0.0
    serving: float = 0.0
    requests: int = 0
    accuracy: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    skipped: str | None = None

    @property
    def waiting(self) -> float:
        return max(0.0, self.seconds - self.training - self.serving)

    @contextmanager
    def timed(self, activity: Activity) -> Iterator[None]:
        """Count what happens inside as training or serving."""
        begun = time.monotonic()
        try:
            yield
        finally:
            setattr(self, activity, getattr(self, activity) + time.monotonic() - begun)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "waiting": self.waiting}


@dataclass
class Summary:
    """
    The whole demonstration.

    Attributes:
        source: Where the data came from.
        ids: Of what was made, by what it is, to look it up by.
    """

    source: str
    workload: str = ""
    ids: dict[str, str] = field(default_factory=dict)
    steps: list[StepRecord] = field(default_factory=list)

    @contextmanager
    def step(self, number: int, name: str) -> Iterator[StepRecord]:
        """A new record, timed from here to the end of the block."""
        record = StepRecord(number, name)
        self.steps.append(record)
        begun = time.monotonic()
        try:
            yield record
        finally:
            record.seconds = time.monotonic() - begun

    @property
    def requests(self) -> int:
        return sum(step.requests for step in self.steps)

    @property
    def audit_command(self) -> str:
        return "perpetune audit --limit 100"

    def as_json(self) -> dict[str, Any]:
        return {
            "workload": self.workload,
            "source": self.source,
            "ids": self.ids,
            "requests": self.requests,
            "seconds": sum(step.seconds for step in self.steps),
            "steps": [step.as_json() for step in self.steps],
            "audit_command": self.audit_command,
        }

    def rows(self) -> list[tuple[str, ...]]:
        """Cells of the table whose head is COLUMNS, with a line for the whole."""
        lines = [
            (
                str(step.number),
                step.name,
                accuracy(step),
                findings(step),
                str(step.requests or ""),
                *map(_seconds, (step.seconds, step.training, step.serving, step.waiting)),
            )
            for step in self.steps
        ]
        return [*lines, ("", "all", "", "", str(self.requests), *map(_seconds, self._seconds()))]

    def _seconds(self) -> tuple[float, float, float, float]:
        return (
            sum(step.seconds for step in self.steps),
            sum(step.training for step in self.steps),
            sum(step.serving for step in self.steps),
            sum(step.waiting for step in self.steps),
        )


COLUMNS = (
    "",
    "step",
    "accuracy",
    "found",
    "sent",
    "seconds",
    "training",
    "serving",
    "waiting",
)


def accuracy(step: StepRecord) -> str:
    """The measured shares in one cell, a line each."""
    return "\n".join(f"{_words(name)} {share:.0%}" for name, share in step.accuracy.items())


def findings(step: StepRecord) -> str:
    """The step's findings in one cell, a line each."""
    if step.skipped:
        return f"skipped: {step.skipped}"
    return "\n".join(f"{_words(name)} {value}" for name, value in step.facts.items())


def _words(name: str) -> str:
    return name.replace("_", " ")


def _seconds(value: float) -> str:
    return f"{value:.1f}" if value >= 0.05 else ""
