"""
Which rows a step sees, and how they are laid out for the model. Pure.

Rows are laid end to end without padding, so the lengths inside a batch do not matter and no sorting
by length disturbs the random order. What all rows of a micro-batch begin with (often a system text)
is computed once: under causal attention its states are the same for every row.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar


@dataclass(frozen=True)
class Row:
    """A rendered training example; the tokens with `trained` are the targets."""

    token_ids: list[int]
    trained: list[bool]

    @property
    def first_target(self) -> int:
        """Position of the first target; the row has at least one, and none at position 0."""
        return self.trained.index(True)

    @property
    def n_targets(self) -> int:
        return sum(self.trained)

    @property
    def n_tokens(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True)
class Pair:
    """
    Two answers to one question, of which the first is preferred.

    Attributes:
        reference: Log-probabilities of the chosen and of the rejected answer before training, nats.
    """

    chosen: Row
    rejected: Row
    reference: tuple[float, float] = (0.0, 0.0)

    @property
    def n_tokens(self) -> int:
        return self.chosen.n_tokens + self.rejected.n_tokens


@dataclass(frozen=True)
class Packed:
    """
    A micro-batch laid end to end: the shared prefix, then the rest of each row.

    Attributes:
        token_ids, positions: Shape (tokens,); positions count from the start of each row.
        prefix: Length of the shared prefix, 0 for none.
        lengths: Of the pieces: the prefix if there is one, then the rest of each row.
        sources: Indices whose state predicts a target. Shape (targets,).
        targets: The tokens to be predicted. Shape (targets,).
    """

    token_ids: list[int]
    positions: list[int]
    prefix: int
    lengths: list[int]
    sources: list[int]
    targets: list[int]


@lru_cache(maxsize=4)
def epoch_order(n_rows: int, *, seed: int, epoch: int) -> tuple[int, ...]:
    """A shuffle that depends on nothing but seed and epoch, so that a resumed run repeats it."""
    order = list(range(n_rows))
    random.Random(f"{seed}:{epoch}").shuffle(order)
    return tuple(order)


def batch_of_step(step: int, *, n_rows: int, batch_size: int, seed: int) -> tuple[int, ...]:
    """Indices of the rows of a step, counted from 1 over all epochs."""
    per_epoch = -(-n_rows // batch_size)
    epoch, place = divmod(step - 1, per_epoch)
    order = epoch_order(n_rows, seed=seed, epoch=epoch)
    return order[place * batch_size : (place + 1) * batch_size]


def count_tokens(examples: Sequence[Row | Pair]) -> int:
    """Of all *examples* together."""
    return sum(example.n_tokens for example in examples)


E = TypeVar("E", Row, Pair)


def split_by_tokens(examples: Sequence[E], budget: int) -> list[list[E]]:
    """Micro-batches, in order, of at most *budget* tokens; a longer example stands alone."""
    groups: list[list[E]] = []
    room = 0
    for example in examples:
        length = example.n_tokens
        if not groups or length > room:
            groups.append([])
            room = budget
        groups[-1].append(example)
        room -= length
    return groups


def pack(rows: Sequence[Row]) -> Packed:
    """Lays rows end to end, their common prefix once."""
    prefix = _shared_prefix(rows)
    token_ids = list(rows[0].token_ids[:prefix])
    positions = list(range(prefix))
    packed = Packed(token_ids, positions, prefix, [prefix] if prefix else [], [], [])
    for row in rows:
        start = len(token_ids)
        token_ids.extend(row.token_ids[prefix:])
        positions.extend(range(prefix, len(row.token_ids)))
        packed.lengths.append(len(token_ids) - start)
        for position, is_trained in enumerate(row.trained):
            if is_trained:
                packed.sources.append(start + position - prefix - 1)
                packed.targets.append(row.token_ids[position])
    return packed


def _shared_prefix(rows: Sequence[Row]) -> int:
    """Common to all rows, and ending before the first state that predicts a target."""
    limit = min(row.first_target - 1 for row in rows)
    if len(rows) == 1 or limit <= 0:
        return 0
    first, *others = (row.token_ids for row in rows)
    for position in range(limit):
        if any(other[position] != first[position] for other in others):
            return position
    return limit
