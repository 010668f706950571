"""What `auto` means: numbers chosen from the size of the data, each with its reason. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.finetuning.domain.methods import DPO, SUPERVISED, USUAL_BETA

# Rate of preference training, of the supervised one.
PREFERENCE_SHARE = 0.1
_BETA = (USUAL_BETA, "it is the usual start (Rafailov et al., 2023)")

SHORT_RUN_STEPS = 100
SHORT_RUN_MULTIPLIER = 1.5


@dataclass(frozen=True)
class ResolvedHyperparameters:
    """
    Numbers for every hyperparameter.

    Attributes:
        beta: Of preference training; None otherwise.
        reasons: Explain those that were `auto`.
    """

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    beta: float | None
    reasons: tuple[str, ...]

    @property
    def numbers(self) -> dict[str, float]:
        """By name, those that there are."""
        numbers: dict[str, float] = {
            "n_epochs": self.n_epochs,
            "batch_size": self.batch_size,
            "learning_rate_multiplier": self.learning_rate_multiplier,
        }
        return numbers if self.beta is None else {**numbers, "beta": self.beta}


def resolve_auto(
    n_examples: int,
    total_tokens: int,
    hyperparameters: Mapping[str, Any],
    method: str = SUPERVISED,
) -> ResolvedHyperparameters:
    """
    Replaces `auto` (or a missing value) by a number.

    Args:
        n_examples: Rows of the training file, at least 1.
        total_tokens: Tokens of the training file, for one epoch.
        hyperparameters: `n_epochs`, `batch_size`, `learning_rate_multiplier`, and of preference
            training `beta`: number or `auto`.
        method: `supervised` or `dpo`.

    Source: epochs as OpenAI's cookbook computes them (Chat_finetuning_data_prep); the batch is
    0.2 % of the rows, as OpenAI documented, kept between 4 and 32, because LoRA loses quality with
    larger ones (Schulman et al., LoRA Without Regret, 2025), as is the higher rate of short runs.
    """
    reasons: list[str] = []

    def choose(name: str, chosen: float, reason: str) -> float:
        given = hyperparameters.get(name, "auto")
        if given not in (None, "auto"):
            return float(given)
        reasons.append(f"{name}={chosen:g} because {reason}.")
        return chosen

    n_epochs = int(choose("n_epochs", *_epochs(n_examples, total_tokens)))
    batch_size = int(choose("batch_size", *_batch(n_examples)))
    steps = n_epochs * math.ceil(n_examples / batch_size)
    multiplier = choose("learning_rate_multiplier", *_multiplier(steps))
    beta = choose("beta", *_BETA) if method == DPO else None
    return ResolvedHyperparameters(n_epochs, batch_size, multiplier, beta, tuple(reasons))


def base_learning_rate(parameters: int, method: str = SUPERVISED) -> float:
    """
    Rate for multiplier 1.0, by the number of weights of the base and the method.

    Source: LoRA wants about ten times the rate of full tuning (Schulman et al., 2025); SmolLM2's
    own recipe, 1e-3 at full tuning, is the upper end. Preferences pull at the difference of two
    likelihoods and go astray at that rate.
    """
    share = PREFERENCE_SHARE if method == DPO else 1.0
    if parameters <= 200_000_000:
        return 1e-3 * share
    return (5e-4 if parameters <= 1_000_000_000 else 2e-4) * share


def _epochs(n_examples: int, total_tokens: int) -> tuple[int, str]:
    size = f"the file has {n_examples} examples ({total_tokens} tokens)"
    if 3 * n_examples < 100:
        return min(25, 100 // n_examples), f"{size} and about 100 examples should be seen"
    if 3 * n_examples > 25_000:
        return max(1, 25_000 // n_examples), f"{size} and 25000 seen examples are enough"
    return 3, f"{size} and three passes are the usual start"


def _batch(n_examples: int) -> tuple[int, str]:
    size = min(32, max(4, round(0.002 * n_examples)))
    return size, f"it is 0.2 % of {n_examples} examples, kept between 4 and 32"


def _multiplier(steps: int) -> tuple[float, str]:
    if steps < SHORT_RUN_STEPS:
        return SHORT_RUN_MULTIPLIER, f"{steps} steps are few and short runs need a higher rate"
    return 1.0, f"{steps} steps suffice for the usual rate"
