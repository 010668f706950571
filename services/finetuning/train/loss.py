"""Cross-entropy of the targets, with the head never evaluated anywhere else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# 128 x 49152 logits in fp32 are 25 MB. glibc hands blocks over 32 MB back to the system when they
# are freed, and zeroing their pages again for every chunk took longer than the softmax.
CHUNK_TARGETS = 128


class _CrossEntropy(torch.autograd.Function):
    """
    Computes the gradient together with the loss, so that logits live for one chunk only and the
    softmax is taken once.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch gives it no public type
        states: Tensor,
        head: Tensor,
        targets: Tensor,
    ) -> tuple[Tensor, Tensor]:
        losses = states.new_empty(len(states))
        hits = torch.empty(len(states), dtype=torch.bool, device=states.device)
        gradient = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        for start in range(0, len(states), CHUNK_TARGETS):
            part = slice(start, start + CHUNK_TARGETS)
            wanted = targets[part, None]
            logits = states[part] @ head.T
            peak, likeliest = logits.max(dim=1, keepdim=True)
            hits[part] = (likeliest == wanted).squeeze(1)
            of_target = logits.sub_(peak).gather(1, wanted)
            weights = logits.exp_()
            sums = weights.sum(dim=1, keepdim=True)
            losses[part] = (sums.log() - of_target).squeeze(1)
            if gradient is not None:
                probabilities = weights.div_(sums)
                probabilities.scatter_add_(1, wanted, -torch.ones_like(sums))
                torch.mm(probabilities, head, out=gradient[part])
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(hits)
        return losses, hits

    @staticmethod
    def backward(ctx: Any, losses: Tensor, _hits: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (gradient,) = ctx.saved_tensors
        return gradient * losses[:, None], None, None


def target_losses(states: Tensor, head: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """
    Loss of each target of a micro-batch, and whether it was the likeliest token.

    Args:
        states: Normalised states that predict the targets, shape (targets, hidden).
        head: Shape (vocabulary, hidden), frozen.
        targets: Token ids, shape (targets,).

    Returns:
        Cross-entropies in nats and hits, each of shape (targets,).
    """
    result: tuple[Tensor, Tensor] = _CrossEntropy.apply(  # type: ignore[no-untyped-call]
        states, head, targets
    )
    return result
