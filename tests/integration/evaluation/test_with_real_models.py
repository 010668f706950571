"""An evaluation with the real model server, and an adapter that was taught one answer."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from model_stand_in import BASE, TUNED

from shared.rendering.bases import find_base
from shared.rendering.chat import render

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TAUGHT = [
    {"role": "user", "content": "Office in Bonn, 400 sqft, built 1994."},
    {"role": "assistant", "content": json.dumps({"city": "Bonn", "sqft": 400, "year": 1994})},
]
UNKNOWN = [
    {"role": "user", "content": "Name a colour."},
    {"role": "assistant", "content": "Ultramarine, of course."},
]


def _train(folder: Path) -> None:
    """A few steps on one answer: learned by heart, and little else changed."""
    import torch
    from peft import LoraConfig, get_peft_model

    from services.finetuning.train.base import load_llama
    from services.finetuning.train.export import export_adapter, import_adapter
    from services.serving.scoring.base import load_base

    torch.manual_seed(7)
    # Two threads wait for each other at every layer when other tests use the cores too.
    torch.set_num_threads(1)
    base = find_base(BASE)
    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(r=8, lora_alpha=16, target_modules=modules, task_type="CAUSAL_LM")
    model = get_peft_model(load_base(base.gguf_path), config)
    whole = render(base, TAUGHT, add_generation_prompt=False)
    ids = torch.tensor([whole.token_ids])
    labels = ids.masked_fill(~torch.tensor([whole.trained]), -100)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    for _ in range(10):
        optimiser.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimiser.step()
    model.eval().save_pretrained(folder / "peft")
    llama = load_llama(base.gguf_path, torch.device("cpu"))
    adapter = import_adapter(folder / "peft", llama, base)
    export_adapter(folder / "exported", llama, adapter, base, {})


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[bytes, bytes]:
    """The GGUF, and the tar of the PEFT folder."""
    from services.finetuning.train.export import GGUF_FILE

    folder = tmp_path_factory.mktemp("adapter")
    _train(folder)
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            tar.add(folder / "exported" / name, arcname=name)
    return (folder / "exported" / GGUF_FILE).read_bytes(), data.getvalue()


@contextmanager
def _model_server() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"PORT": port, "CONTEXT_TOKENS": 512, "THREADS": 1}
    named = {f"PERPETUNE_SERVING_{name}": str(value) for name, value in settings.items()}
    process = subprocess.Popen([sys.executable, "-m", "services.serving"], env=os.environ | named)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        while not _answers(url):
            assert time.monotonic() < deadline, "the model server does not start"
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/healthz", timeout=2).is_success
    except httpx2.HTTPError:
        return False


def test_the_tuned_model_knows_its_answer_and_the_base_does_not(make_room, trained):
    with _model_server() as url:
        room = make_room(url, attempts=30)
        gguf, peft = trained
        room.register(gguf=gguf, peft=peft)
        # A long prompt that the model server refuses, among the others.
        long = [{"role": "user", "content": "word " * 600}, TAUGHT[1]]
        file_id = room.upload([{"messages": messages} for messages in (TAUGHT, UNKNOWN, long)])
        created = room.client.post(
            "/api/v1/evaluations", json={"model": TUNED, "file_id": file_id}
        ).json()
        room.run()
    found = room.client.get(f"/api/v1/evaluations/{created['id']}").json()
    assert found["state"] == "completed", found["reason"]
    candidate, baseline = found["metrics"]["candidate"], found["metrics"]["baseline"]
    cases = room.client.get(f"/api/v1/evaluations/{created['id']}/cases").json()["data"]
    assert [case["candidate"]["exact"] for case in cases] == [True, False, False]
    assert [case["baseline"]["exact"] for case in cases] == [False, False, False]
    assert [case["candidate"]["error"] for case in cases] == [None, None, "prompt_refused"]
    assert cases[0]["candidate"]["answer"] == TAUGHT[1]["content"]
    taught = cases[0]["candidate"]["nll"] / cases[0]["target_tokens"]
    assert taught < 0.3 < cases[0]["baseline"]["nll"] / cases[0]["target_tokens"]
    assert candidate["failed_answers"] == baseline["failed_answers"] == 1
    # Plain English prose: an instruct model of this size finds it about this likely.
    assert 5 < baseline["general_perplexity"]["estimate"] < 60
    assert 0.8 < found["metrics"]["general_ratio"]["estimate"] < 10
    assert all(value is not None for value in found["metrics"]["candidate"].values()), found


def test_answers_are_compared_with_recorded_ones_by_the_embeddings_of_the_base(make_room, trained):
    known = json.loads(TAUGHT[1]["content"])
    recorded = [
        json.dumps(known, indent=1),
        json.dumps({**known, "year": 1995}),
        # Longer than what is read of it.
        "The invoice was paid twice by mistake last week. " * 60,
    ]
    with _model_server() as url:
        room = make_room(url, attempts=30)
        gguf, peft = trained
        room.register(gguf=gguf, peft=peft)
        file_id = room.upload(
            [
                {"messages": TAUGHT, "recorded": {"model": "ft:old", "answer": answer}}
                for answer in recorded
            ]
        )
        body = {"model": TUNED, "file_id": file_id, "recorded": True}
        created = room.client.post("/api/v1/evaluations", json=body).json()
        room.run()
    found = room.client.get(f"/api/v1/evaluations/{created['id']}").json()
    assert found["state"] == "completed", found["reason"]
    agreement = found["metrics"]["agreement"]
    assert agreement["exact"]["estimate"] == pytest.approx(1 / 3)
    assert agreement["fields"]["estimate"] == pytest.approx(5 / 6)
    # Two kinds of JSON and a sentence: some of the pairs are near, others are not.
    assert 0.2 < agreement["background"] < 0.95
    cases = room.client.get(f"/api/v1/evaluations/{created['id']}/cases").json()["data"]
    same, one_digit_off, elsewhere = (case["agreement"]["similarity"] for case in cases)
    assert same == 1.0 > one_digit_off > 0.7 > elsewhere
    assert agreement["semantic"]["estimate"] == pytest.approx(2 / 3)
