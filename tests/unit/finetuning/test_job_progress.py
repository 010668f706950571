from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.finetuning.domain import progress
from services.finetuning.trainer.lines import Stepped, read_line

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_step_is_told_in_openais_sentence():
    metrics = {"train_loss": 1.234, "valid_loss": 2.0, "full_valid_loss": None, "seconds": 3.0}
    assert (
        progress.describe_step(3, 10, metrics)
        == "Step 3/10: training loss=1.23, validation loss=2.00"
    )
    assert progress.measured(metrics) == {"train_loss": 1.234, "valid_loss": 2.0}


def test_steps_before_an_interruption_do_not_shorten_the_estimate():
    finish = progress.estimate_finish(
        now=NOW, started=NOW - timedelta(seconds=20), first_step=50, step=60, total_steps=100
    )
    assert finish == NOW + timedelta(seconds=80)


def test_line_of_a_step_is_read_with_its_metrics():
    line = read_line('{"event": "step", "step": 2, "total_steps": 4, "train_loss": 0.5, "new": 1}')
    assert isinstance(line, Stepped)
    assert (line.step, line.train_loss, line.valid_loss) == (2, 0.5, None)


def test_line_that_is_not_ours_is_ignored():
    assert read_line("Loading weights: 100%") is None
    assert read_line('{"event": "sung"}') is None
    assert read_line('{"event": "step"}') is None
