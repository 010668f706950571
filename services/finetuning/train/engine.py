"""One optimizer step and one evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.finetuning.train.batches import Row, pack, split_by_tokens
from services.finetuning.train.lora import named_parameters
from services.finetuning.train.loss import summed_loss
from services.finetuning.train.model import Adapter, Llama, target_states, to_batch

BETAS = (0.9, 0.99)
WEIGHT_DECAY = 0.01
CLIP_NORM = 1.0


@dataclass(frozen=True)
class Measured:
    """
    Attributes:
        loss: Mean over the targets, nats.
        accuracy: Share of the targets that were the likeliest token.
        targets: Over so many.
    """

    loss: float
    accuracy: float
    targets: int

    def __add__(self, other: Measured) -> Measured:
        """Both together, every target counted once."""
        targets = self.targets + other.targets
        loss = self.loss * self.targets + other.loss * other.targets
        hits = self.accuracy * self.targets + other.accuracy * other.targets
        return Measured(loss / targets, hits / targets, targets)


class Engine:
    """The base, an adapter in training and its optimizer."""

    def __init__(self, llama: Llama, adapter: Adapter, *, micro_batch_tokens: int) -> None:
        self.llama = llama
        self.adapter = adapter
        self._micro_batch_tokens = micro_batch_tokens
        self._named = dict(named_parameters(adapter))
        self._optimizer = torch.optim.AdamW(
            self._named.values(), betas=BETAS, weight_decay=WEIGHT_DECAY
        )

    def step(self, rows: Sequence[Row], learning_rate: float) -> tuple[Measured, float]:
        """
        Learns from *rows*. Returns what was measured before the update, and the gradient's norm.

        Raises:
            FloatingPointError: Loss or gradient are no longer finite; nothing was updated.
        """
        self._optimizer.zero_grad()
        measured = self._accumulate(rows, is_training=True)
        parameters = list(self._named.values())
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM))
        if not math.isfinite(measured.loss) or not math.isfinite(norm):
            raise FloatingPointError("The loss is no longer finite; use a lower learning rate.")
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        return measured, norm

    def evaluate(self, rows: Sequence[Row]) -> Measured:
        """Loss and accuracy over *rows*, computed exactly as in training."""
        with torch.no_grad():
            return self._accumulate(rows, is_training=False)

    def _accumulate(self, rows: Sequence[Row], *, is_training: bool) -> Measured:
        n_targets = sum(row.n_targets for row in rows)
        loss, hits = 0.0, 0
        for group in split_by_tokens(rows, self._micro_batch_tokens):
            batch = to_batch(pack(group), self.llama)
            states = target_states(self.llama, self.adapter, batch)
            total, correct = summed_loss(states, self.llama.head, batch.targets)
            if is_training:
                # Divided by the targets of the whole step: micro-batches with few targets must
                # not weigh as much as those with many.
                (total / n_targets).backward()  # type: ignore[no-untyped-call]
            loss += float(total.detach())
            hits += int(correct)
        return Measured(loss / n_targets, hits / n_targets, n_targets)

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
