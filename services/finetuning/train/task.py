"""What is to be trained: the folder's plan, base and rows, and what follows from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from services.finetuning.auto import base_learning_rate
from services.finetuning.domain.methods import DPO
from services.finetuning.train.batches import Pair, Row, count_tokens
from services.finetuning.train.objectives import Objective, Preference, Supervised
from services.finetuning.train.plan import (
    Plan,
    affordable_evaluations,
    content_of,
    count_steps,
    full_evaluation_steps,
    read_plan,
)
from services.finetuning.train.rows import Notice, read_pairs, read_rows
from shared.errors import Invalid
from shared.rendering.bases import BaseModel, find_base


@dataclass(frozen=True)
class Task:
    """What is to be trained: plan, base and rows, with the numbers that follow from them."""

    folder: Path
    plan: Plan
    base: BaseModel
    rows: Sequence[Row | Pair]
    validation: Sequence[Row | Pair]
    notices: list[Notice]
    data_digest: str

    @cached_property
    def fingerprint(self) -> str:
        """Of everything that decides the result; a saved state belongs to exactly one."""
        content = json.dumps([content_of(self.plan), self.data_digest, self.base.template_hash])
        return hashlib.sha256(content.encode()).hexdigest()

    @cached_property
    def steps_per_epoch(self) -> int:
        return count_steps(len(self.rows), self.plan.batch_size, 1)[0]

    @cached_property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.plan.n_epochs

    @cached_property
    def peak_learning_rate(self) -> float:
        base_rate = base_learning_rate(self.base.parameters, self.plan.method)
        return base_rate * self.plan.learning_rate_multiplier

    @cached_property
    def objective(self) -> Objective[Any]:
        return Preference(self.plan.beta) if self.plan.method == DPO else Supervised()

    @cached_property
    def full_evaluations(self) -> frozenset[int]:
        if not self.validation:
            return frozenset()
        return full_evaluation_steps(
            steps_per_epoch=self.steps_per_epoch,
            total_steps=self.total_steps,
            wanted=self.plan.full_evaluations,
            affordable=affordable_evaluations(
                training_tokens=count_tokens(self.rows) * self.plan.n_epochs,
                validation_tokens=count_tokens(self.validation),
            ),
        )


def read_task(folder: Path) -> Task:
    """
    Reads `plan.json`, `train.jsonl` and, when present, `validation.jsonl`.

    Raises:
        Invalid: The plan or a row cannot be used; the message says which and why.
        OSError: A file cannot be read.
    """
    plan = read_plan(folder / "plan.json")
    base = find_base(plan.base)
    if base is None:
        raise Invalid(
            f"base {plan.base!r} is not installed on this machine.",
            code="base_not_found",
            param="base",
        )
    limit = min(plan.max_row_tokens, base.training_tokens)
    read: Callable[..., tuple[Any, list[Notice]]] = read_pairs if plan.method == DPO else read_rows
    rows, notices = read(base, folder / "train.jsonl", limit)
    validation: list[Any] = []
    if (folder / "validation.jsonl").exists():
        validation, more = read(base, folder / "validation.jsonl", limit)
        notices += more
    digest = hashlib.sha256((folder / "train.jsonl").read_bytes()).hexdigest()
    return Task(folder, plan, base, rows, validation, notices, digest)
