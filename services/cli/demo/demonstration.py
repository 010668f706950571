"""What the steps of the demonstration share."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from openai.types.fine_tuning import SupervisedHyperparametersParam

from services.cli.connection import Connection
from services.cli.demo.bus import Bus
from services.cli.demo.material import Material
from services.cli.demo.summary import Summary
from services.cli.demo.traffic import Traffic
from services.cli.errors import CommandFailed
from services.cli.screen import Screen
from shared.rendering.bases import find_base
from shared.rendering.tokenizer import encode

BASE_MODEL = "smollm2-135m-instruct"
WORKLOAD = "listing-extractor"

HYPERPARAMETERS: SupervisedHyperparametersParam = {
    "n_epochs": 1,
    "batch_size": 8,
    "learning_rate_multiplier": 1.0,
}

# Everything a decision rests on is said here; the rest has its default.
POLICY: dict[str, Any] = {
    # A quarter of the users from the start: the demonstration has few.
    "canary": {"shares": [0.25, 0.5], "guardrails": ["error"]},
    "drift": {"baseline_outcomes": 30},
    "retraining": {
        "min_corrections": 24,
        "replay_rows": 24,
        "min_interval_seconds": 0,
        "n_epochs": 2,
        "batch_size": 8,
        "learning_rate_multiplier": 1.0,
    },
    # Corrections are learned from together with what was asked.
    "capture_content": True,
}


@dataclass
class Demonstration:
    """
    Attributes:
        workload, traffic: Made by the first step.
        files: Ids of the uploaded files, by purpose: training, validation, held_out.
        project: As the API calls it; known from the job.
        model: The live tuned model.
        evaluation: Of the tuned model, with its verdict.
    """

    connection: Connection
    material: Material
    bus: Bus
    screen: Screen
    summary: Summary
    seed: int
    workload: str = ""
    project: str = ""
    model: str = ""
    files: dict[str, str] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def traffic(self) -> Traffic:
        """The simulated users of the workload."""
        return Traffic(
            self.connection,
            self.workload,
            self.material.supply,
            seed=self.seed,
            max_tokens=answer_tokens(self.material),
        )


def answer_tokens(material: Material) -> int:
    """Tokens that every right answer fits in; what goes on beyond them is wrong anyway."""
    base = find_base(BASE_MODEL)
    if base is None:
        raise CommandFailed(f"The weights of {BASE_MODEL} are not installed; run 'make install'.")
    known = (*material.training, *material.validation, *material.held_out)
    # One for the end of the turn, some for listings that are still to come.
    return max(len(encode(base, case.answer)) for case in known) + 8
