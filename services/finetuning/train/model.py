"""
The Llama architecture as the trainer needs it: frozen weights, LoRA on every linear layer, no
padding, and states only where a target is predicted.

Written out instead of taken from transformers and peft because those load this base in about
twenty seconds and train at half the speed on a CPU; tests hold it against them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from services.finetuning.train.batches import Packed
from services.finetuning.train.kernels import lora_linear, rms_norm, rotate, swiglu


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama model; `head` is the width of one attention head."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head: int
    rope_base: float
    norm_epsilon: float


@dataclass(frozen=True)
class Layer:
    """
    Frozen weights of one layer, each matrix (out, in).

    Matrices with the same input are stacked: `qkv` and `gate_up` are one product each.
    """

    attention_norm: Tensor
    qkv: Tensor
    output: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor


@dataclass(frozen=True)
class Llama:
    """Frozen base model. `embedding` (vocabulary, hidden) is also the head unless one is given."""

    shape: Shape
    embedding: Tensor
    layers: list[Layer]
    norm: Tensor
    head: Tensor


@dataclass(frozen=True)
class Delta:
    """LoRA of a stacked matrix: `down` (blocks x rank, in), one `up` (out, rank) per block."""

    down: Tensor
    ups: list[Tensor]


@dataclass(frozen=True)
class Adapter:
    """Per layer the deltas of qkv, output, gate_up and down; `scale` is alpha / rank."""

    layers: list[dict[str, Delta]]
    scale: float


@dataclass(frozen=True)
class Batch:
    """A packed micro-batch on the device."""

    token_ids: Tensor
    cos: Tensor
    sin: Tensor
    prefix: int
    lengths: list[int]
    sources: Tensor
    targets: Tensor
    mask: Tensor


def to_batch(packed: Packed, llama: Llama) -> Batch:
    """Moves a micro-batch to the device of *llama* and computes its rotations and mask."""
    device, size = llama.norm.device, llama.shape.head
    frequencies = llama.shape.rope_base ** (
        -torch.arange(0, size, 2, dtype=torch.float32, device=device) / size
    )
    positions = torch.tensor(packed.positions, dtype=torch.float32, device=device)
    angles = torch.outer(positions, frequencies)[:, None, :]
    longest = max(packed.lengths)
    mask = torch.ones(longest, packed.prefix + longest, dtype=torch.bool, device=device)
    return Batch(
        token_ids=torch.tensor(packed.token_ids, device=device),
        cos=angles.cos(),
        sin=angles.sin(),
        prefix=packed.prefix,
        lengths=packed.lengths,
        sources=torch.tensor(packed.sources, device=device),
        targets=torch.tensor(packed.targets, device=device),
        mask=mask.tril(packed.prefix),
    )


def target_states(llama: Llama, adapter: Adapter, batch: Batch) -> Tensor:
    """States that predict the targets, normalised for the head. Shape (targets, hidden)."""
    states = llama.embedding[batch.token_ids]
    for layer, deltas in zip(llama.layers, adapter.layers, strict=True):
        project = partial(_project, layer, deltas, adapter.scale)
        states = _layer(states, layer, project, llama.shape, batch)
    return rms_norm(states[batch.sources], llama.norm, llama.shape.norm_epsilon)


def _project(
    layer: Layer, deltas: dict[str, Delta], scale: float, name: str, inputs: Tensor
) -> Tensor:
    delta = deltas[name]
    return lora_linear(inputs, getattr(layer, name), scale, delta.down, delta.ups)


def _layer(
    states: Tensor,
    layer: Layer,
    project: Callable[[str, Tensor], Tensor],
    shape: Shape,
    batch: Batch,
) -> Tensor:
    normed = rms_norm(states, layer.attention_norm, shape.norm_epsilon)
    states = states + project("output", _attend(project("qkv", normed), shape, batch))
    normed = rms_norm(states, layer.mlp_norm, shape.norm_epsilon)
    return states + project("down", swiglu(project("gate_up", normed)))


def _attend(qkv: Tensor, shape: Shape, batch: Batch) -> Tensor:
    """
    Causal attention of every row to the shared prefix and to itself. Shape (tokens, hidden).

    Rows are cut out by `split`, whose backward pass joins the pieces; slices would each fill a
    gradient of the whole batch with zeros.
    """
    heads = [shape.heads, shape.kv_heads, shape.kv_heads]
    grouped = qkv.view(len(qkv), sum(heads), shape.head)
    rotated = rotate(grouped, batch.cos, batch.sin, shape.heads + shape.kv_heads)
    rows = [row.transpose(0, 1) for row in torch.split(rotated, batch.lengths)]
    pieces = [torch.split(row, heads) for row in rows]
    attended = []
    if batch.prefix:
        query, prefix_key, prefix_value = pieces.pop(0)
        attended.append(_attention(query, prefix_key, prefix_value, None))
    for query, key, value in pieces:
        if not batch.prefix:
            attended.append(_attention(query, key, value, None))
            continue
        keys = torch.cat((prefix_key, key), dim=1)
        values = torch.cat((prefix_value, value), dim=1)
        mask = batch.mask[: query.shape[1], : keys.shape[1]]
        attended.append(_attention(query, keys, values, mask))
    return torch.cat(attended, dim=1).transpose(0, 1).reshape(len(qkv), -1)


def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    groups = len(query) // len(key)
    key, value = (part.repeat_interleave(groups, dim=0) for part in (key, value))
    return functional.scaled_dot_product_attention(
        query[None], key[None], value[None], attn_mask=mask, is_causal=mask is None
    )[0]
