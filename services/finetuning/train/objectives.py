"""What a step minimises: the loss of answers, or of preferring one answer to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from services.finetuning.train.batches import Pair, Row, split_by_tokens

E = TypeVar("E")


class Objective(Protocol[E]):
    """How examples are laid out, and what their losses add up to."""

    def count(self, examples: Sequence[E]) -> int:
        """Over how many the mean is taken."""
        ...

    def groups(self, examples: Sequence[E], budget: int) -> list[list[E]]:
        """Micro-batches, in order, of about *budget* tokens at most."""
        ...

    def rows(self, group: Sequence[E]) -> list[Row]:
        """The rows that are computed for a micro-batch, in order."""
        ...

    def total(self, group: Sequence[E], losses: Tensor, hits: Tensor) -> tuple[Tensor, Tensor]:
        """
        Sums over a micro-batch.

        Args:
            group: The micro-batch.
            losses: Cross-entropy of each target of its rows, shape (targets,).
            hits: Whether each target was the likeliest token, shape (targets,).

        Returns:
            The loss to be minimised, and how many came out as wanted.
        """
        ...


class Supervised:
    """Every target counts alike; it comes out as wanted when it was the likeliest token."""

    def count(self, examples: Sequence[Row]) -> int:
        return sum(row.n_targets for row in examples)

    def groups(self, examples: Sequence[Row], budget: int) -> list[list[Row]]:
        return split_by_tokens(examples, budget)

    def rows(self, group: Sequence[Row]) -> list[Row]:
        return list(group)

    def total(self, group: Sequence[Row], losses: Tensor, hits: Tensor) -> tuple[Tensor, Tensor]:
        del group
        return losses.sum(), hits.sum()


@dataclass(frozen=True)
class Preference:
    """
    Direct preference optimisation: every pair counts alike; it comes out as wanted when the chosen
    answer gained more on the reference than the rejected one.

    Attributes:
        beta: How dear it is to leave the reference, > 0.

    Source: Rafailov et al., Direct Preference Optimization, 2023, equation 7.
    """

    beta: float

    def count(self, examples: Sequence[Pair]) -> int:
        return len(examples)

    def groups(self, examples: Sequence[Pair], budget: int) -> list[list[Pair]]:
        return split_by_tokens(examples, budget)

    def rows(self, group: Sequence[Pair]) -> list[Row]:
        return [row for pair in group for row in (pair.chosen, pair.rejected)]

    def total(self, group: Sequence[Pair], losses: Tensor, hits: Tensor) -> tuple[Tensor, Tensor]:
        del hits
        found = summed_by_row(self.rows(group), losses).view(-1, 2)
        reference = torch.tensor(
            [pair.reference for pair in group], dtype=found.dtype, device=found.device
        )
        gains = found - reference
        margins = self.beta * (gains[:, 0] - gains[:, 1])
        return -logsigmoid(margins).sum(), (margins > 0).sum()


def summed_by_row(rows: Sequence[Row], losses: Tensor) -> Tensor:
    """Log-probability of each row's targets together, in nats; shape (rows,)."""
    parts = torch.split(losses, [row.n_targets for row in rows])
    return -torch.stack([part.sum() for part in parts])
