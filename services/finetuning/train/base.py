"""Loads a base model: GGUF weights become dense fp32 tensors in the layout of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor

from services.finetuning.train.model import Layer, Llama, Shape
from shared.rendering.gguf_header import Header, StoredTensor, read_header


def load_llama(path: Path, device: torch.device) -> Llama:
    """
    The frozen model of a GGUF file.

    Quantised weights are expanded, because a quantised product would expand them again in every
    step.

    Raises:
        ValueError: The file holds another architecture than Llama.
        OSError: The file cannot be read.

    Cost: four bytes a weight; about a second for 135 M.
    """
    header = read_header(path)
    if header.metadata["general.architecture"] != "llama":
        raise ValueError(
            f"{path} holds a {header.metadata['general.architecture']} model; "
            "only llama models can be trained."
        )
    shape = _shape(header)
    data = np.memmap(path, dtype=np.uint8, mode="r")

    def read(name: str) -> Tensor:
        return _expand(data, header.tensors[name]).to(device)

    embedding = read("token_embd.weight")
    return Llama(
        shape=shape,
        embedding=embedding,
        layers=[_layer(read, number, shape) for number in range(shape.layers)],
        norm=read("output_norm.weight"),
        head=read("output.weight") if "output.weight" in header.tensors else embedding,
    )


def _shape(header: Header) -> Shape:
    def key(name: str) -> Any:  # noqa: ANN401 - the file names the type
        return header.metadata[f"llama.{name}"]

    heads, hidden = key("attention.head_count"), key("embedding_length")
    return Shape(
        layers=key("block_count"),
        hidden=hidden,
        intermediate=key("feed_forward_length"),
        heads=heads,
        kv_heads=key("attention.head_count_kv"),
        head=hidden // heads,
        rope_base=key("rope.freq_base"),
        norm_epsilon=key("attention.layer_norm_rms_epsilon"),
    )


def _layer(read: Any, number: int, shape: Shape) -> Layer:  # noqa: ANN401
    def part(name: str) -> Tensor:
        tensor: Tensor = read(f"blk.{number}.{name}.weight")
        return tensor

    query = split_rotation(part("attn_q"), shape.heads)
    key = split_rotation(part("attn_k"), shape.kv_heads)
    return Layer(
        attention_norm=part("attn_norm"),
        qkv=torch.cat((query, key, part("attn_v"))),
        output=part("attn_output"),
        mlp_norm=part("ffn_norm"),
        gate_up=torch.cat((part("ffn_gate"), part("ffn_up"))),
        down=part("ffn_down"),
    )


def split_rotation(weight: Tensor, heads: int) -> Tensor:
    """
    Rows of a query or key matrix from llama.cpp's order to that of transformers.

    llama.cpp rotates neighbouring rows of a head as a pair, transformers the two halves of a head.
    """
    rows, columns = weight.shape
    return weight.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def interleave_rotation(weight: Tensor, heads: int) -> Tensor:
    """The inverse of `split_rotation`: from the order of transformers to that of llama.cpp."""
    rows, columns = weight.shape
    return weight.view(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns)


def _expand(data: np.memmap[Any, Any], stored: StoredTensor) -> Tensor:
    kind = gguf.GGMLQuantizationType(stored.kind)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    row_bytes = stored.shape[-1] // block * size
    rows = int(np.prod(stored.shape[:-1], dtype=np.int64))
    raw = data[stored.offset : stored.offset + rows * row_bytes].reshape(rows, row_bytes)
    dense = gguf.dequantize(raw, kind).reshape(stored.shape)
    return torch.from_numpy(dense.astype(np.float32))
