"""When to stop, and which step was best. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Evaluation:
    """Loss (nats per trained token) over the whole validation file after a step."""

    step: int
    loss: float


@dataclass(frozen=True)
class Verdict:
    """The step with the lowest loss so far, and whether to stop now."""

    best_step: int
    should_stop: bool


def judge(
    history: Sequence[Evaluation], *, steps_per_epoch: int, patience: int, min_improvement: float
) -> Verdict:
    """
    Judges all full evaluations so far, oldest first.

    Stops when the last *patience* evaluations each failed to beat the best loss before them by the
    share *min_improvement*, but not within the first epoch: until then some rows are unseen.

    Raises:
        ValueError: The history is empty.
    """
    best = min(history, key=lambda evaluation: evaluation.loss)
    reference, idle = history[0].loss, 0
    for evaluation in history[1:]:
        if evaluation.loss < reference * (1 - min_improvement):
            reference, idle = evaluation.loss, 0
        else:
            idle += 1
    may_stop = patience > 0 and history[-1].step >= steps_per_epoch
    return Verdict(best.step, may_stop and idle >= patience)
