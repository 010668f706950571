"""
Tokenizers built from GGUF metadata.

Special tokens are deliberately not registered: text never turns into a control token, whoever wrote
it. Control tokens are inserted by id, by `shared.rendering.chat` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from shared.rendering.bases import BaseModel
from shared.rendering.gguf_header import read_header


@cache
def load_tokenizer(base: BaseModel) -> Tokenizer:
    """
    The tokenizer of *base*, built once per process (about 0.4 s).

    Raises:
        ValueError: The base uses a pre-tokenizer that is not known here.
    """
    metadata = read_header(base.gguf_path).metadata
    kind = (metadata["tokenizer.ggml.model"], metadata["tokenizer.ggml.pre"])
    if kind != ("gpt2", "smollm"):
        raise ValueError(f"{base.gguf_path}: tokenizer {kind} is not supported.")
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    merges: list[str] = metadata["tokenizer.ggml.merges"]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: number for number, token in enumerate(tokens)},
            merges=[_split_merge(merge) for merge in merges],
        )
    )
    # SmolLM2 was pre-trained with every digit on its own. transformers forgets this rule when it
    # converts a GGUF file (seen in 5.23); llama.cpp follows it.
    digits = pre_tokenizers.Digits(individual_digits=True)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def encode(base: BaseModel, text: str) -> list[int]:
    """
    Token ids of plain text; spellings of control tokens stay text.

    Half a surrogate pair, which JSON can hold and UTF-8 cannot, becomes a question mark.
    """
    whole = text.encode("utf-8", errors="replace").decode()
    ids: list[int] = load_tokenizer(base).encode(whole, add_special_tokens=False).ids
    return ids


def decode(base: BaseModel, token_ids: Sequence[int]) -> str:
    """Text of *token_ids*; control tokens appear by name. Bytes that are no UTF-8 become U+FFFD."""
    text: str = load_tokenizer(base).decode(list(token_ids), skip_special_tokens=False)
    return text


def _split_merge(merge: str) -> tuple[str, str]:
    left, right = merge.split(" ", 1)
    return left, right
