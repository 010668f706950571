"""
What an earlier child did and nobody wrote down: it may have been ahead of a trainer that was
killed, or have made its last step while it was being stopped. Its folder still knows.
"""

from __future__ import annotations

import json
from pathlib import Path

from services.finetuning.service.training import Recorded
from services.finetuning.trainer.lines import Checkpointed, Stepped


def missed_lines(folder: Path, recorded: Recorded) -> list[Stepped | Checkpointed]:
    """Lines of steps that will not be repeated, in order; call it when the child has loaded."""
    journal = folder / "metrics.jsonl"
    # The child cuts the journal down to the step from which it goes on.
    steps = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
    missed: list[Stepped | Checkpointed] = []
    for record in map(json.loads, steps):
        line = Stepped.model_validate({"event": "step", **record})
        if line.step > recorded.last_step:
            missed.append(line)
        path = folder / "checkpoints" / f"step-{line.step}"
        if line.step not in recorded.checkpoints and path.exists():
            missed.append(
                Checkpointed(event="checkpoint", step=line.step, path=path, metrics=line.metrics)
            )
    return missed
