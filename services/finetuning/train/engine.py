"""One optimizer step and one evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from services.finetuning.train.batches import Row, pack, split_by_tokens
from services.finetuning.train.lora import named_parameters
from services.finetuning.train.loss import target_losses
from services.finetuning.train.model import Adapter, Llama, target_states, to_batch
from services.finetuning.train.objectives import Objective, summed_by_row

BETAS = (0.9, 0.99)
WEIGHT_DECAY = 0.01
CLIP_NORM = 1.0


@dataclass(frozen=True)
class Measured:
    """
    Attributes:
        loss: Mean of the objective, nats.
        accuracy: Share that came out as wanted.
        count: Over so many: targets, or pairs.
    """

    loss: float
    accuracy: float
    count: int

    def __add__(self, other: Measured) -> Measured:
        """Both together, every one counted once."""
        count = self.count + other.count
        loss = self.loss * self.count + other.loss * other.count
        hits = self.accuracy * self.count + other.accuracy * other.count
        return Measured(loss / count, hits / count, count)


E = TypeVar("E")


class Engine(Generic[E]):
    """The base, an adapter in training and its optimizer; E is what it learns from."""

    def __init__(
        self,
        llama: Llama,
        adapter: Adapter,
        objective: Objective[E],
        *,
        micro_batch_tokens: int,
    ) -> None:
        self.llama = llama
        self.adapter = adapter
        self._objective = objective
        self._micro_batch_tokens = micro_batch_tokens
        self._named = dict(named_parameters(adapter))
        self._optimizer = torch.optim.AdamW(
            self._named.values(), betas=BETAS, weight_decay=WEIGHT_DECAY
        )

    def step(self, examples: Sequence[E], learning_rate: float) -> tuple[Measured, float]:
        """
        Learns from *examples*.

        Returns:
            What was measured before the update, and the gradient's norm.

        Raises:
            FloatingPointError: Loss or gradient are no longer finite; nothing was updated.
        """
        self._optimizer.zero_grad()
        measured = self._accumulate(examples, is_training=True)
        parameters = list(self._named.values())
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM))
        if not math.isfinite(measured.loss) or not math.isfinite(norm):
            raise FloatingPointError("The loss is no longer finite; use a lower learning rate.")
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        return measured, norm

    def evaluate(self, examples: Sequence[E]) -> Measured:
        """Loss and accuracy over *examples*, computed exactly as in training."""
        with torch.no_grad():
            return self._accumulate(examples, is_training=False)

    def log_probabilities(self, rows: Sequence[Row]) -> list[float]:
        """Of each row's targets together, in nats, under the weights as they are."""
        found: list[float] = []
        with torch.no_grad():
            for group in split_by_tokens(rows, self._micro_batch_tokens):
                losses, _ = self._losses(group)
                found += summed_by_row(group, losses).tolist()
        return found

    def _accumulate(self, examples: Sequence[E], *, is_training: bool) -> Measured:
        count = self._objective.count(examples)
        loss, hits = 0.0, 0
        for group in self._objective.groups(examples, self._micro_batch_tokens):
            losses, correct = self._losses(self._objective.rows(group))
            total, good = self._objective.total(group, losses, correct)
            if is_training:
                # Divided by the count of the whole step: micro-batches with few targets must not
                # weigh as much as those with many.
                (total / count).backward()  # type: ignore[no-untyped-call]
            loss += float(total.detach())
            hits += int(good)
        return Measured(loss / count, hits / count, count)

    def _losses(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        batch = to_batch(pack(rows), self.llama)
        states = target_states(self.llama, self.adapter, batch)
        return target_losses(states, self.llama.head, batch.targets)

    def weights(self) -> dict[str, Tensor]:
        """The tensors of the adapter, by name."""
        return {name: tensor.detach() for name, tensor in self._named.items()}

    def snapshot(self) -> dict[str, Tensor]:
        """Adapter and optimizer: what `restore` needs to go on exactly here."""
        tensors = {f"weight.{name}": tensor for name, tensor in self.weights().items()}
        for name, parameter in self._named.items():
            for key, value in self._optimizer.state[parameter].items():
                tensors[f"{key}.{name}"] = value
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes over a snapshot of an engine of the same size."""
        self.load_weights({name: tensors[f"weight.{name}"] for name in self._named})
        for name, parameter in self._named.items():
            state = {key: tensors[f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
            self._optimizer.state[parameter] = {
                key: value.clone() if key == "step" else value.to(parameter.device)
                for key, value in state.items()
            }

    def load_weights(self, tensors: dict[str, Tensor]) -> None:
        """Replaces the adapter's tensors, keeping the optimizer."""
        with torch.no_grad():
            for name, parameter in self._named.items():
                parameter.copy_(tensors[name])
