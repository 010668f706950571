"""
The few operations of a layer, each with a backward pass that is written out.

Eager autograd would keep every intermediate of them and run twice as many passes over memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# ruff: noqa: ANN401 - torch gives the context of a function no public type


def lora_linear(
    inputs: Tensor, weight: Tensor, scale: float, down: Tensor, ups: Sequence[Tensor]
) -> Tensor:
    """
    `x W^T + scale * (x A^T) B^T`, for stacked matrices with the same input.

    Args:
        inputs: x, shape (tokens, in).
        weight: W, shape (out, in), frozen.
        scale: alpha / rank.
        down: A of all blocks, stacked: (blocks x rank, in).
        ups: B of each block: (out of the block, rank); their rows add up to out.
    """
    result: Tensor = _LoraLinear.apply(inputs, weight, scale, down, *ups)  # type: ignore[no-untyped-call]
    return result


def rms_norm(states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Root mean square normalisation of (tokens, hidden), scaled by a frozen weight."""
    result: Tensor = _RmsNorm.apply(states, weight, epsilon)  # type: ignore[no-untyped-call]
    return result


def swiglu(gate_up: Tensor) -> Tensor:
    """`silu(gate) * up` of two halves side by side: (tokens, 2 n) becomes (tokens, n)."""
    result: Tensor = _SwiGlu.apply(gate_up)  # type: ignore[no-untyped-call]
    return result


def rotate(heads: Tensor, cos: Tensor, sin: Tensor, n_heads: int) -> Tensor:
    """
    Rotary positions, in place, on the first *n_heads* of *heads* (tokens, heads, head).

    *cos* and *sin* have shape (tokens, 1, head / 2).
    """
    result: Tensor = _Rotate.apply(heads, cos, sin, n_heads)  # type: ignore[no-untyped-call]
    return result


class _LoraLinear(torch.autograd.Function):
    """Adds the low-rank products in place and gives the frozen W no gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        scale: float,
        down: Tensor,
        *ups: Tensor,
    ) -> Tensor:
        outputs = inputs @ weight.T
        inner = inputs @ down.T
        rank = down.shape[0] // len(ups)
        start = 0
        for number, up in enumerate(ups):
            block = outputs[:, start : start + len(up)]
            block.addmm_(inner[:, number * rank : (number + 1) * rank], up.T, alpha=scale)
            start += len(up)
        ctx.save_for_backward(inputs, inner, weight, down, *ups)
        ctx.scale = scale
        return outputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, inner, weight, down, *ups = ctx.saved_tensors
        rank = down.shape[0] // len(ups)
        inner_gradient = torch.empty_like(inner)
        up_gradients: list[Tensor] = []
        start = 0
        for number, up in enumerate(ups):
            block = gradient[:, start : start + len(up)]
            columns = slice(number * rank, (number + 1) * rank)
            inner_gradient[:, columns] = block @ up
            up_gradients.append((block.T @ inner[:, columns]).mul_(ctx.scale))
            start += len(up)
        inner_gradient.mul_(ctx.scale)
        down_gradient = inner_gradient.T @ inputs
        input_gradient = None
        if ctx.needs_input_grad[0]:
            input_gradient = (gradient @ weight).addmm_(inner_gradient, down)
        return input_gradient, None, None, down_gradient, *up_gradients


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        inverse = states.square().mean(dim=1, keepdim=True).add_(epsilon).rsqrt_()
        ctx.save_for_backward(states, inverse, weight)
        return (states * inverse).mul_(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        states, inverse, weight = ctx.saved_tensors
        weighted = gradient * weight
        projection = (weighted * states).mean(dim=1, keepdim=True)
        projection.mul_(inverse.pow(3))
        return weighted.mul_(inverse).addcmul_(states, projection, value=-1), None, None


class _SwiGlu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, dim=1)
        return functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=1)
        result = torch.empty_like(gate_up)
        gate_gradient, up_gradient = result.chunk(2, dim=1)
        torch.mul(gradient, functional.silu(gate), out=up_gradient)
        torch.mul(gradient, up, out=gate_gradient)
        gate_gradient.copy_(torch.ops.aten.silu_backward(gate_gradient, gate))
        return result


class _Rotate(torch.autograd.Function):
    """In place on the first *n_heads* heads; the backward pass turns the other way."""

    @staticmethod
    def forward(ctx: Any, heads: Tensor, cos: Tensor, sin: Tensor, n_heads: int) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.n_heads = n_heads
        ctx.mark_dirty(heads)
        return _turn(heads, cos, sin, n_heads)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(gradient.clone(), cos, -sin, ctx.n_heads), None, None, None


def _turn(heads: Tensor, cos: Tensor, sin: Tensor, n_heads: int) -> Tensor:
    first, second = heads[:, :n_heads].chunk(2, dim=-1)
    turned = first * cos
    turned.addcmul_(second, sin, value=-1)
    second.mul_(cos).addcmul_(first, sin)
    first.copy_(turned)
    return heads
