"""Reads a base from its GGUF file into the Llama of transformers, which PEFT can adapt.

`from_pretrained(gguf_file=...)` gives the same model, but parses the vocabulary twice in pure
Python (15 s for 135M against 2 s here) and marks the dense model as quantised.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from shared.rendering.gguf_header import Header, StoredTensor, read_header

_OUTSIDE_LAYERS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_IN_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def load_base(path: Path) -> LlamaForCausalLM:
    """
    The base in fp32, in evaluation mode.

    Raises:
        ValueError: The file is no GGUF, or its architecture is not Llama's.

    Cost: 4 bytes per parameter.
    """
    header = read_header(path)
    config = _config(header)
    # Without storage: every tensor is assigned from the file, so initial values are wasted.
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    bytes_ = np.memmap(path, dtype=np.uint8, mode="r")
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    state = {}
    for name, stored in header.tensors.items():
        part = name.split(".")[-2]
        tensor = _dense(bytes_, stored)
        state[_name(name)] = _unpermute(tensor, heads[part]) if part in heads else tensor
    model.load_state_dict(state, strict=False, assign=True)
    model.tie_weights()
    # Rotary frequencies are computed, not stored, so they are still without storage.
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    return model.eval()


def _config(header: Header) -> LlamaConfig:
    architecture = header.metadata.get("general.architecture")
    if architecture != "llama":
        raise ValueError(f"scoring knows the architecture 'llama', not '{architecture}'")

    def key(name: str) -> Any:  # noqa: ANN401 - the file names the type
        return header.metadata[f"llama.{name}"]

    return LlamaConfig(
        vocab_size=header.tensors["token_embd.weight"].shape[0],
        hidden_size=key("embedding_length"),
        intermediate_size=key("feed_forward_length"),
        num_hidden_layers=key("block_count"),
        num_attention_heads=key("attention.head_count"),
        num_key_value_heads=key("attention.head_count_kv"),
        max_position_embeddings=key("context_length"),
        rms_norm_eps=key("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": key("rope.freq_base")},
        tie_word_embeddings="output.weight" not in header.tensors,
    )


def _name(name: str) -> str:
    """Name of a tensor in transformers, from its name in GGUF."""
    if name in _OUTSIDE_LAYERS:
        return _OUTSIDE_LAYERS[name]
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{_IN_LAYER[part]}.{kind}"


def _dense(data: np.ndarray[Any, Any], stored: StoredTensor) -> Tensor:
    kind = gguf.GGMLQuantizationType(stored.kind)
    per_block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    row_bytes = stored.shape[-1] // per_block * block_bytes
    rows = int(np.prod(stored.shape[:-1], dtype=np.int64))
    raw = np.asarray(data[stored.offset : stored.offset + rows * row_bytes])
    dense = gguf.dequantize(raw.reshape(rows, row_bytes), kind).reshape(stored.shape)
    return torch.from_numpy(np.array(dense, dtype=np.float32))


def _unpermute(weight: Tensor, heads: int) -> Tensor:
    """llama.cpp rotates neighbouring rows of a head as a pair, transformers its two halves."""
    rows, columns = weight.shape
    pairs = weight.view(heads, rows // heads // 2, 2, columns)
    return pairs.transpose(1, 2).reshape(rows, columns)
