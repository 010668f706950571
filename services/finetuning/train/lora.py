"""LoRA adapters on every linear layer: making, naming, and PEFT's layout of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from services.finetuning.train.model import Adapter, Delta, Layer, Llama
from shared.errors import Invalid

# Blocks of each stacked matrix, by the names transformers gives the modules.
BLOCKS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "output": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
TARGET_MODULES = sorted(name.split(".")[1] for names in BLOCKS.values() for name in names)


def new_adapter(llama: Llama, *, rank: int, alpha: float, seed: int) -> Adapter:
    """
    A fresh adapter: A uniform in +-1/sqrt(in), B zero, so that it changes nothing yet.

    Source: the default initialisation of peft (Kaiming uniform with a = sqrt(5)).
    """
    generator = torch.Generator().manual_seed(seed)

    def delta(layer: Layer, name: str) -> Delta:
        width = getattr(layer, name).shape[1]
        down = torch.empty(len(BLOCKS[name]) * rank, width)
        down.uniform_(-(width**-0.5), width**-0.5, generator=generator)
        ups = [torch.zeros(rows, rank) for rows in _block_rows(llama, name)]
        return _trainable(down, ups, llama)

    layers = [{name: delta(layer, name) for name in BLOCKS} for layer in llama.layers]
    return Adapter(layers, alpha / rank)


def named_parameters(adapter: Adapter) -> Iterator[tuple[str, Tensor]]:
    """Every trained tensor with a name that stays the same between runs."""
    for number, deltas in enumerate(adapter.layers):
        for name, delta in deltas.items():
            yield f"{number}.{name}.down", delta.down
            for block, up in enumerate(delta.ups):
                yield f"{number}.{name}.up.{block}", up


def to_modules(adapter: Adapter) -> Iterator[tuple[int, str, Tensor, Tensor]]:
    """Layer number, module name, A (rank, in) and B (out, rank) of every adapted module."""
    for number, deltas in enumerate(adapter.layers):
        for name, delta in deltas.items():
            downs = delta.down.detach().chunk(len(delta.ups))
            for module, down, up in zip(BLOCKS[name], downs, delta.ups, strict=True):
                yield number, module, down, up.detach()


def to_peft(adapter: Adapter) -> dict[str, Tensor]:
    """Tensors under the names of a PEFT adapter file."""
    tensors = {}
    for number, module, down, up in to_modules(adapter):
        tensors[_peft_name(number, module, "A")] = down.contiguous().cpu()
        tensors[_peft_name(number, module, "B")] = up.contiguous().cpu()
    return tensors


def from_peft(llama: Llama, tensors: Mapping[str, Tensor], *, alpha: float) -> Adapter:
    """
    The adapter in the tensors of a PEFT file.

    Raises:
        Invalid: A module of the base has no LoRA in the file, or one of another size.
    """

    def delta(number: int, name: str) -> Delta:
        downs = [_take(tensors, _peft_name(number, module, "A")) for module in BLOCKS[name]]
        ups = [_take(tensors, _peft_name(number, module, "B")) for module in BLOCKS[name]]
        if [len(up) for up in ups] != _block_rows(llama, name):
            raise Invalid(
                f"layer {number} of the adapter does not fit the base; "
                "continue from an adapter of the same base.",
                code="adapter_mismatch",
                param="continue_from",
            )
        return _trainable(torch.cat(downs), ups, llama)

    layers = [{name: delta(number, name) for name in BLOCKS} for number in range(len(llama.layers))]
    return Adapter(layers, alpha / layers[0]["output"].ups[0].shape[1])


def _trainable(down: Tensor, ups: list[Tensor], llama: Llama) -> Delta:
    device = llama.norm.device
    return Delta(
        down.float().to(device).requires_grad_(),
        [up.float().to(device).requires_grad_() for up in ups],
    )


def _block_rows(llama: Llama, name: str) -> list[int]:
    shape = llama.shape
    return {
        "qkv": [shape.heads * shape.head, *[shape.kv_heads * shape.head] * 2],
        "output": [shape.hidden],
        "gate_up": [shape.intermediate] * 2,
        "down": [shape.hidden],
    }[name]


def _peft_name(number: int, module: str, matrix: str) -> str:
    return f"base_model.model.model.layers.{number}.{module}.lora_{matrix}.weight"


def _take(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise Invalid(
            f"the adapter lacks {name}; only adapters on all linear layers can be continued.",
            code="adapter_mismatch",
            param="continue_from",
        )
    return tensors[name]
