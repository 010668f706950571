"""torch and llama.cpp read the same base and adapters: they must say the same."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from model_servers import BASE, ModelServer, run_server, wait_until

from shared.errors import Invalid
from shared.rendering.bases import find_base
from shared.rendering.chat import render
from shared.serving_client import TokensToScore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

QUESTION, TAUGHT = "What does Perpetune do?", "Tuned models stay tuned."
# llama.cpp rounds activations to eight bits: closer choices than this may fall either way.
NEAR_TIE_NATS = 0.25
QUESTIONS = ("What is the capital of France?", "Name three colours.", "Count from 1 to 5.")


@dataclass(frozen=True)
class Tuned:
    """An adapter that was taught one answer: PEFT folder and GGUF file, and its torch model."""

    folder: Path
    gguf: Path
    model: object
    prompt: list[int]
    answer: list[int]


def _prompt(text: str) -> list[int]:
    messages = [{"role": "user", "content": text}]
    return list(render(find_base(BASE), messages, add_generation_prompt=True).token_ids)


def _whole(text: str, answer: str) -> list[int]:
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    return list(render(find_base(BASE), messages, add_generation_prompt=False).token_ids)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> Tuned:
    """Trained by PEFT itself, then exported to GGUF by the trainer."""
    import torch
    from peft import LoraConfig, get_peft_model

    from services.finetuning.train.base import load_llama
    from services.finetuning.train.export import GGUF_FILE, export_adapter, import_adapter
    from services.serving.scoring.base import load_base

    # Two spinning threads beside other tests are slower than one.
    torch.set_num_threads(1)
    torch.manual_seed(7)
    base, folder = find_base(BASE), tmp_path_factory.mktemp("adapter")
    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(r=8, lora_alpha=16, target_modules=modules, task_type="CAUSAL_LM")
    model = get_peft_model(load_base(base.gguf_path), config)
    prompt, whole = _prompt(QUESTION), _whole(QUESTION, TAUGHT)
    ids = torch.tensor([whole])
    labels = ids.clone()
    labels[:, : len(prompt)] = -100
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    for _ in range(6):
        optimiser.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimiser.step()
    model.eval().save_pretrained(folder / "peft")
    llama = load_llama(base.gguf_path, torch.device("cpu"))
    adapter = import_adapter(folder / "peft", llama, base)
    export_adapter(folder / "exported", llama, adapter, base, {})
    answer = whole[len(prompt) : whole.index(base.turn_end_id, len(prompt)) + 1]
    return Tuned(folder / "exported", folder / "exported" / GGUF_FILE, model, prompt, answer)


@pytest.fixture(scope="module")
def scoring_server() -> Iterator[ModelServer]:
    with run_server() as server:
        yield server


def _logprobs_by_torch(model, ids: list[int], start: int):
    """Shape (len(ids) - start, vocabulary): what torch expects at each place from *start* on."""
    import torch

    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0, start - 1 : -1].log_softmax(-1)


def _count_agreed(model, prompt: list[int], answer: list[int]) -> int:
    """
    Tokens of llama.cpp's greedy *answer* that are torch's greedy choice too, up to a near-tie.

    One pass over the answer decides it: as long as both chose the same, both saw the same past.
    """
    logprobs = _logprobs_by_torch(model, prompt + answer, len(prompt))
    for place, token in enumerate(answer):
        first, second = logprobs[place].topk(2).values.tolist()
        if first - second < NEAR_TIE_NATS:
            return place
        assert int(logprobs[place].argmax()) == token, f"they part at token {place}"
    return len(answer)


def _greedy_by_llama(url: str, prompt: list[int], most: int) -> list[int]:
    request = {"prompt": prompt, "n_predict": most, "temperature": 0, "return_tokens": True}
    return httpx2.post(f"{url}/completion", json=request, timeout=60).json()["tokens"]


def _after(prompt: list[int], ids: list[int]) -> TokensToScore:
    return TokensToScore(ids, [i >= len(prompt) for i in range(len(ids))])


def test_base_gives_the_same_greedy_answers_as_torch(scoring_server, tuned):
    url = scoring_server.client.load("base", base=BASE).url
    agreed = 0
    with tuned.model.disable_adapter():
        for question in QUESTIONS:
            prompt = _prompt(question)
            answer = _greedy_by_llama(url, prompt, 16)
            agreed += _count_agreed(tuned.model, prompt, answer)
    assert agreed >= 16, "too few clear choices for a comparison"


def test_adapter_gives_the_same_greedy_answer_as_torch(scoring_server, tuned):
    url = scoring_server.client.load("ft:tuned", base=BASE, adapter=str(tuned.gguf)).url
    answer = _greedy_by_llama(url, tuned.prompt, 40)
    assert answer == tuned.answer, "the adapter did not learn; the comparison would be empty"
    assert _count_agreed(tuned.model, tuned.prompt, answer) == len(answer)


def test_same_id_with_another_adapter_is_refused(scoring_server, tuned):
    scoring_server.client.load("ft:one", base=BASE)
    with pytest.raises(Invalid) as refused:
        scoring_server.client.load("ft:one", base=BASE, adapter=str(tuned.gguf))
    assert refused.value.code == "model_conflict"


def test_scores_are_those_of_a_plain_forward_pass(scoring_server, tuned):
    """Lengths differ, so that rows are padded; base, adapter, base, so that none leaks."""
    cases = [
        (_prompt(question), _whole(question, answer))
        for question, answer in zip(QUESTIONS, ("Paris.", "Red, green and blue.", "1"), strict=True)
    ]
    with tuned.model.disable_adapter():
        by_base = [_given_logprobs(tuned.model, *case) for case in cases]
    by_adapter = [_given_logprobs(tuned.model, *case) for case in cases]
    for adapter, expected in (
        (None, by_base),
        (str(tuned.folder), by_adapter),
        (None, by_base),
    ):
        scores = scoring_server.client.score(
            [_after(prompt, ids) for prompt, ids in cases], base=BASE, adapter=adapter
        )
        for score, logprobs in zip(scores, expected, strict=True):
            assert score.logprobs == pytest.approx(logprobs, abs=2e-3)
            assert score.top_logprobs == ()


def _given_logprobs(model, prompt: list[int], ids: list[int]) -> list[float]:
    logprobs = _logprobs_by_torch(model, ids, len(prompt))
    return [float(row[token]) for row, token in zip(logprobs, ids[len(prompt) :], strict=True)]


def test_adapter_makes_what_it_was_taught_likely(scoring_server, tuned):
    taught = [_after(tuned.prompt, tuned.prompt + tuned.answer)]
    (before,) = scoring_server.client.score(taught, base=BASE)
    (after,) = scoring_server.client.score(
        taught, base=BASE, adapter=str(tuned.folder), top_logprobs=3
    )
    assert _perplexity(before.logprobs) > 5
    assert _perplexity(after.logprobs) < 1.5
    assert all(after.greedy)
    assert not all(before.greedy)
    assert [best[0][0] for best in after.top_logprobs] == tuned.answer
    assert [best[0][1] for best in after.top_logprobs] == pytest.approx(list(after.logprobs))


def _perplexity(logprobs: tuple[float, ...]) -> float:
    return math.exp(-sum(logprobs) / len(logprobs))


def test_generated_text_is_likelier_than_the_same_words_shuffled(scoring_server):
    url = scoring_server.client.load("base", base=BASE).url
    prompt = _prompt(QUESTIONS[0])
    answer = _greedy_by_llama(url, prompt, 16)
    own, shuffled = scoring_server.client.score(
        [_after(prompt, prompt + answer), _after(prompt, prompt + answer[::-1])], base=BASE
    )
    assert all(own.greedy)
    assert _perplexity(own.logprobs) < 2 < _perplexity(shuffled.logprobs)


def test_score_of_llama_and_torch_agree_within_quantisation(scoring_server):
    """llama.cpp rounds activations to eight bits; torch computes in 32."""
    url = scoring_server.client.load("base", base=BASE).url
    prompt = _prompt(QUESTIONS[0])
    request = {"prompt": prompt, "n_predict": 8, "temperature": 0, "n_probs": 1}
    body = httpx2.post(f"{url}/completion", json=request, timeout=60).json()
    pieces = [(step["id"], step["logprob"]) for step in body["completion_probabilities"]]
    ids = prompt + [token for token, _ in pieces]
    (score,) = scoring_server.client.score([_after(prompt, ids)], base=BASE)
    assert score.logprobs == pytest.approx([logprob for _, logprob in pieces], abs=0.15)


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"sequences": [{"token_ids": [1, 49152], "scored": [False, True]}]},
         "token_out_of_range", "sequences[0].token_ids"),
        ({"sequences": [{"token_ids": [5] * 8193, "scored": [False] * 8193}]},
         "invalid_value", "sequences.0.token_ids"),
        ({"sequences": [{"token_ids": [1, 2], "scored": [False]}]},
         "invalid_value", "sequences.0"),
        ({"sequences": [{"token_ids": [1, 2], "scored": [True, True]}]},
         "invalid_value", "sequences.0"),
        ({"sequences": []}, "invalid_value", "sequences"),
        ({"adapter": "/no/such/folder"}, "adapter_not_usable", "adapter"),
        ({"base": "nobody-1b"}, "base_not_found", "base"),
    ],
)  # fmt: skip
def test_refused_scores_name_the_field(scoring_server, change, code, param):
    good = {"base": BASE, "sequences": [{"token_ids": [1, 2], "scored": [False, True]}]}
    answer = httpx2.post(f"{scoring_server.url}/v1/score", json=good | change, timeout=60)
    error = answer.json()["error"]
    assert answer.status_code == (404 if code == "base_not_found" else 400)
    assert (error["code"], error["param"]) == (code, param)


def test_killed_scorer_answers_the_next_request(scoring_server):
    sequence = [TokensToScore([1, 4093, 198], [False, True, True])]
    before = scoring_server.client.score(sequence, base=BASE)
    (pid,) = _scorers(scoring_server.process.pid)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: _scorers(scoring_server.process.pid) == [], seconds=5)
    assert scoring_server.client.score(sequence, base=BASE) == before


def _scorers(parent: int) -> list[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [
        int(child)
        for child in children
        if b"services.serving.scoring" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
