"""What a training step looks like to the one who watches."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

Metrics = Mapping[str, float | int | None]

# OpenAI's keys and order; what was not measured is left out.
METRIC_NAMES = (
    "train_loss",
    "train_mean_token_accuracy",
    "valid_loss",
    "valid_mean_token_accuracy",
    "full_valid_loss",
    "full_valid_mean_token_accuracy",
)


def describe_step(step: int, total_steps: int, metrics: Metrics) -> str:
    """OpenAI's sentence about a step, losses in nats per token."""
    names = {
        "train_loss": "training loss",
        "valid_loss": "validation loss",
        "full_valid_loss": "full validation loss",
    }
    shown = [
        f"{text}={value:.2f}"
        for name, text in names.items()
        if (value := metrics.get(name)) is not None
    ]
    return f"Step {step}/{total_steps}: {', '.join(shown)}"


def measured(metrics: Metrics) -> dict[str, float]:
    """Those of OpenAI's metrics that were measured."""
    return {name: value for name in METRIC_NAMES if (value := metrics.get(name)) is not None}


def estimate_finish(
    *, now: datetime, started: datetime, first_step: int, step: int, total_steps: int
) -> datetime:
    """
    When a run ends if it goes on as since *started*, when the last finished step was *first_step*.

    Steps done before an interruption do not count: nothing is known of the time they took here.
    """
    per_step = (now - started).total_seconds() / max(1, step - first_step)
    return now + timedelta(seconds=per_step * max(0, total_steps - step))
