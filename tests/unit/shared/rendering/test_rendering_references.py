"""Our tokens against those of the two programs that also read the file."""

from __future__ import annotations

import json
import urllib.request

import pytest

from shared.rendering.bases import find_base
from shared.rendering.chat import render
from shared.rendering.tokenizer import decode, encode

pytestmark = pytest.mark.slow

BASE = find_base("smollm2-135m-instruct")
TEXTS = [
    "Hello, world! It's they're we've I'd.",
    "  leading and   inner   spaces \t tabs\n\n\nlines \r\n end  ",
    "Zürich, 東京, Москва, עברית, العربية, ελληνικά 🏠👩‍👩‍👧 e\u0301",
    "def f(x):\n    return {'a': [x, None]}  # <|not special|> <|im_end|>",
    '{"rooms": null, "address": "Main Street", "tags": ["a", "b"]}',
    "",
]
DIGITS = ["3 rooms, 72.5 m2, 1'234'567 CHF; 2026-11-22T08:09:10", "a1b22 333 ٣٤ Ⅷ ½ x²"]


@pytest.fixture(scope="module")
def llama_cpp():
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(BASE.gguf_path)
    parameters.n_ctx = 256
    parameters.n_parallel = 1
    return xllamacpp.Server(parameters)


@pytest.mark.parametrize("text", TEXTS + DIGITS)
def test_tokens_equal_those_of_llama_cpp(llama_cpp, text):
    request = urllib.request.Request(
        f"{llama_cpp.listening_address}/tokenize",
        data=json.dumps({"content": text, "parse_special": False}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:
        assert json.load(response)["tokens"] == encode(BASE, text)
    assert decode(BASE, encode(BASE, text)) == text


def test_chats_equal_those_of_transformers():
    """Without digits, for which the converter of transformers 5.23 loses the splitting rule."""
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(
        str(BASE.gguf_path.parent), gguf_file=BASE.gguf_path.name
    )
    for text in TEXTS[:3] + TEXTS[4:5]:
        chat = [
            {"role": "system", "content": "You help."},
            {"role": "user", "content": text.strip()},
            {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": "Why?"},
        ]
        expected = reference.apply_chat_template(
            chat, add_generation_prompt=True, return_dict=False
        )
        assert render(BASE, chat, add_generation_prompt=True).token_ids == expected
