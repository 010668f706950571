"""Adapters as others read them: PEFT safetensors, GGUF for llama.cpp, and a manifest."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import gguf
from safetensors.torch import load_file, save_file

from services.finetuning.train.base import interleave_rotation
from services.finetuning.train.lora import TARGET_MODULES, from_peft, to_modules, to_peft
from services.finetuning.train.model import Adapter, Llama
from shared.errors import Invalid
from shared.rendering.bases import BaseModel, digest_base

PEFT_WEIGHTS, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
GGUF_FILE, MANIFEST = "adapter.gguf", "manifest.json"
_GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def export_adapter(
    folder: Path, llama: Llama, adapter: Adapter, base: BaseModel, facts: dict[str, Any]
) -> None:
    """
    Writes an adapter folder; it appears complete or not at all.

    An existing *folder* is replaced. *facts* go into the manifest beside base, template, size and
    digests.

    Raises:
        OSError: There is no room, or the folder cannot be written.
    """
    temporary = folder.with_name(folder.name + ".partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    rank = adapter.layers[0]["output"].ups[0].shape[1]
    alpha = adapter.scale * rank
    save_file(to_peft(adapter), temporary / PEFT_WEIGHTS, metadata={"format": "pt"})
    (temporary / PEFT_CONFIG).write_text(json.dumps(_peft_config(base, rank, alpha), indent=2))
    _write_gguf(temporary / GGUF_FILE, llama, adapter, alpha)
    manifest = {
        "base": base.name,
        "base_digest": digest_base(base),
        "template_hash": base.template_hash,
        "rank": rank,
        "alpha": alpha,
        **facts,
        "files": {file.name: _digest(file) for file in sorted(temporary.iterdir())},
    }
    (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2))
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def import_adapter(folder: Path, llama: Llama, base: BaseModel) -> Adapter:
    """
    The adapter of a PEFT folder, to be trained further.

    Raises:
        Invalid: It belongs to another base or template, or does not cover all linear layers.
        OSError: A file is missing.
    """
    manifest_file = folder / MANIFEST
    if manifest_file.exists():
        manifest = json.loads(manifest_file.read_text())
        taught = (manifest["base"], manifest["template_hash"])
        if taught != (base.name, base.template_hash):
            raise Invalid(
                f"the adapter was trained on {manifest['base']} with template "
                f"{manifest['template_hash'][:12]}; this run uses {base.name} with "
                f"{base.template_hash[:12]}.",
                code="adapter_mismatch",
                param="continue_from",
            )
    config = json.loads((folder / PEFT_CONFIG).read_text())
    return from_peft(llama, load_file(folder / PEFT_WEIGHTS), alpha=config["lora_alpha"])


def _peft_config(base: BaseModel, rank: int, alpha: float) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.name,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": TARGET_MODULES,
    }


def _write_gguf(path: Path, llama: Llama, adapter: Adapter, alpha: float) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    rotated = {"attn_q": llama.shape.heads, "attn_k": llama.shape.kv_heads}
    for number, module, down, up in to_modules(adapter):
        name = _GGUF_NAMES[module]
        rows = interleave_rotation(up, rotated[name]) if name in rotated else up
        stem = f"blk.{number}.{name}.weight"
        writer.add_tensor(f"{stem}.lora_a", down.contiguous().cpu().numpy())
        writer.add_tensor(f"{stem}.lora_b", rows.contiguous().cpu().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
