"""What one run of the trainer does, and the schedules that follow from it. Pure."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from services.finetuning.domain.methods import METHODS, SUPERVISED, USUAL_BETA
from shared.errors import Invalid

WARM_UP_SHARE = 0.05
WARM_UP_MIN_STEPS = 3
WARM_UP_MAX_SHARE = 0.2  # a run of a dozen steps must not spend half of them warming up
FINAL_RATE_SHARE = 0.1


# Fields that came later, with what they are where nobody gave them: a plan without them is the one
# it was, and goes on with the state that was saved for it.
_LATER: dict[str, object] = {"method": SUPERVISED, "beta": USUAL_BETA}


@dataclass(frozen=True)
class Plan:
    """
    Everything the trainer is told. Read from `plan.json`; unknown keys are an error.

    Attributes:
        base: Name of the base model.
        n_epochs: Passes over the rows.
        batch_size: Rows per step.
        learning_rate_multiplier: Factor on the base rate of `services.finetuning.auto`.
        method: `supervised`, or `dpo` for pairs of answers.
        beta: Of `dpo`: how dear it is to leave the weights training starts from.
        seed: Decides the order of rows and the first weights.
        continue_from: Folder of a PEFT adapter to go on from; its rank and alpha are kept.
        rank, alpha: Of a new adapter, on all linear layers.
        patience, min_improvement: Early stopping: after so many full evaluations that each improve
            the loss by less than this share. Patience 0 switches it off.
        small_evaluation_steps: A batch of validation rows is measured every so many steps.
        full_evaluations: Wanted number of full evaluations, ends of epochs included.
        max_row_tokens: Longer rows are cut at their end.
        micro_batch_tokens: Tokens computed at once; bounds the memory (about 1.3 MB a token).
        save_seconds: Longest time between two saved states.
        threads: Threads of the matrix products; None uses every physical core.
        device: `cpu`, `cuda`, or None for the fastest present.
        code_version, data_digest: Recorded in the manifest of the adapter.
    """

    base: str
    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    seed: int
    method: str = SUPERVISED
    beta: float = USUAL_BETA
    continue_from: str | None = None
    rank: int = 16
    alpha: int = 32
    patience: int = 2
    min_improvement: float = 0.005
    small_evaluation_steps: int = 10
    full_evaluations: int = 5
    max_row_tokens: int = 2048
    micro_batch_tokens: int = 1024
    save_seconds: float = 10.0
    threads: int | None = None
    device: str | None = None
    code_version: str = "unknown"
    data_digest: str | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise Invalid(
                f"method must be one of {', '.join(METHODS)}.", code="invalid_plan", param="method"
            )
        if not self.beta > 0:
            raise Invalid("beta must be greater than 0.", code="invalid_plan", param="beta")
        for name in ("n_epochs", "batch_size", "rank", "alpha", "max_row_tokens"):
            if getattr(self, name) < 1:
                raise Invalid(f"{name} must be at least 1.", code="invalid_plan", param=name)
        if not self.learning_rate_multiplier > 0:
            raise Invalid(
                "learning_rate_multiplier must be greater than 0.",
                code="invalid_plan",
                param="learning_rate_multiplier",
            )


def content_of(plan: Plan) -> dict[str, object]:
    """What tells plans apart."""
    content: dict[str, object] = asdict(plan)
    return {
        name: value
        for name, value in content.items()
        if name not in _LATER or value != _LATER[name]
    }


def read_plan(path: Path) -> Plan:
    """
    The plan in a JSON file.

    Raises:
        Invalid: A key is missing, unknown or out of range.
        OSError: The file cannot be read.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Invalid(f"{path.name} is not JSON: {error}.", code="invalid_plan") from error
    known = {field.name for field in fields(Plan)}
    if unknown := sorted(set(values) - known):
        raise Invalid(
            f"{path.name} has unknown keys: {', '.join(unknown)}.",
            code="invalid_plan",
            param=unknown[0],
        )
    try:
        return Plan(**values)
    except TypeError as error:
        raise Invalid(f"{path.name}: {error}.", code="invalid_plan") from error


def count_steps(n_rows: int, batch_size: int, n_epochs: int) -> tuple[int, int]:
    """Steps of one epoch and of the whole run; the last batch of an epoch may be short."""
    per_epoch = math.ceil(n_rows / batch_size)
    return per_epoch, per_epoch * n_epochs


def learning_rate_at(step: int, total_steps: int, peak: float) -> float:
    """
    Rate of a step, counted from 1: linear warm-up, then a cosine down to a tenth of the peak.

    Source: schedule of SmolLM2's published recipe, with a floor instead of 0.
    """
    warm_up = max(WARM_UP_MIN_STEPS, math.ceil(WARM_UP_SHARE * total_steps))
    warm_up = min(warm_up, max(1, int(WARM_UP_MAX_SHARE * total_steps)))
    if step <= warm_up:
        return peak * step / warm_up
    progress = (step - warm_up) / max(1, total_steps - warm_up)
    cosine = (1 + math.cos(math.pi * min(1.0, progress))) / 2
    return peak * (FINAL_RATE_SHARE + (1 - FINAL_RATE_SHARE) * cosine)


def full_evaluation_steps(
    *, steps_per_epoch: int, total_steps: int, wanted: int, affordable: int
) -> frozenset[int]:
    """
    Steps after which the whole validation file is measured.

    The end of every epoch always; between them further ones, evenly spread, until there are
    *wanted* of them, but never more than *affordable* in all.
    """
    ends = set(range(steps_per_epoch, total_steps + 1, steps_per_epoch))
    target = min(wanted, affordable)
    per_epoch = math.ceil(target / max(1, len(ends)))
    if per_epoch <= 1 or target <= len(ends):
        return frozenset(ends)
    between = {
        end - steps_per_epoch + round(part * steps_per_epoch / per_epoch)
        for end in ends
        for part in range(1, per_epoch)
    }
    return frozenset(step for step in ends | between if step > 0)


def affordable_evaluations(
    *, training_tokens: int, validation_tokens: int, share: float = 0.15
) -> int:
    """
    Full evaluations that fit into *share* of the training time.

    A token costs about a third when it is only evaluated: no backward pass through layers and head.
    """
    return int(share * training_tokens / max(1.0, validation_tokens / 3))
