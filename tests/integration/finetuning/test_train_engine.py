"""The trainer as a process, on the real base: results, kills, continued adapters, and exports."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from shared.rendering.bases import find_base
from shared.rendering.chat import render
from shared.rendering.tokenizer import decode

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

BASE = find_base("smollm2-135m-instruct")
CITIES = ["Bern", "Basel", "Chur", "Thun", "Genf", "Zug", "Visp", "Olten"]
PLAN = {
    "base": BASE.name,
    "n_epochs": 2,
    "batch_size": 2,
    "learning_rate_multiplier": 1.5,
    "seed": 7,
    "small_evaluation_steps": 3,
    "save_seconds": 0,
    "threads": 2,
}
STEPS = 8


def example(number):
    return {
        "messages": [
            {"role": "user", "content": f"Flat in {CITIES[number]}, {number + 2} rooms"},
            {"role": "assistant", "content": f'{{"city": "{CITIES[number]}"}}'},
        ]
    }


def make_folder(folder, **changes):
    folder.mkdir()
    lines = [json.dumps(example(number)) + "\n" for number in range(len(CITIES))]
    (folder / "train.jsonl").write_text("".join(lines))
    (folder / "validation.jsonl").write_text("".join(lines[:2]))
    (folder / "plan.json").write_text(json.dumps(PLAN | changes))
    return folder


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-m", "services.finetuning.train", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    )


def train(folder):
    """Runs to the end. Returns the events."""
    events, code = train_until(folder, step=None, send=None)
    assert code == 0
    return events


def train_until(folder, *, step, send):
    """Runs until *step* is reported, then sends a signal. Returns events and exit code."""
    events = []
    with start(folder) as process:
        try:
            for line in process.stdout:
                events.append(json.loads(line))
                if events[-1]["event"] == "step" and events[-1]["step"] == step:
                    process.send_signal(send)
        except BaseException:  # the time-out of the test, too
            process.kill()
            raise
        return events, process.wait()


def steps(events):
    return {event["step"]: event for event in events if event["event"] == "step"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An uninterrupted run: its folder and events."""
    folder = make_folder(tmp_path_factory.mktemp("trainer") / "whole")
    return folder, train(folder)


def test_run_reports_every_step_and_leaves_its_results(finished):
    folder, events = finished
    reported = steps(events)

    assert events[0]["event"] == "loaded"
    assert list(reported) == list(range(1, STEPS + 1))
    assert reported[STEPS]["train_loss"] < reported[1]["train_loss"] / 2
    assert {step for step, event in reported.items() if "valid_loss" in event} == {3, 6}
    assert {4, 8} <= {step for step, event in reported.items() if "full_valid_loss" in event}
    checkpoints = [event for event in events if event["event"] == "checkpoint"]
    assert [event["step"] for event in checkpoints] == [4, 8]
    assert events[-1]["event"] == "finished"
    assert events[-1]["stopped_early"] is False
    with Path(events[-1]["result_csv"]).open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["train_loss"]) for row in rows] == [
        event["train_loss"] for event in reported.values()
    ]
    for path in [events[-1]["path"], *(event["path"] for event in checkpoints)]:
        assert sorted(file.name for file in Path(path).iterdir()) == [
            "adapter.gguf",
            "adapter_config.json",
            "adapter_model.safetensors",
            "manifest.json",
        ]
    manifest = json.loads((folder / "model" / "manifest.json").read_text())
    assert manifest["template_hash"] == BASE.template_hash
    assert manifest["step"] == events[-1]["best_step"]


def test_stopped_and_killed_run_ends_like_an_uninterrupted_one(finished, tmp_path):
    folder = make_folder(tmp_path / "killed")
    expected = steps(finished[1])

    stopped, code = train_until(folder, step=2, send=signal.SIGTERM)
    assert code == 0
    assert stopped[-1]["event"] == "stopped"
    killed, code = train_until(folder, step=5, send=signal.SIGKILL)
    assert code == -signal.SIGKILL
    resumed = train(folder)

    last = stopped[-1]["step"]
    assert killed[0]["resumed_from_step"] == last
    assert min(steps(killed)) == last + 1
    saved = resumed[0]["resumed_from_step"]
    assert saved >= 4  # the state is saved after every step here, so at most one step is lost
    assert list(steps(resumed)) == list(range(saved + 1, STEPS + 1))
    together = steps(stopped) | steps(killed) | steps(resumed)
    for step, event in expected.items():
        assert together[step]["train_loss"] == pytest.approx(event["train_loss"], rel=1e-3)
    final, reference = resumed[-1], finished[1][-1]
    assert final["trained_tokens"] == reference["trained_tokens"]
    with Path(final["result_csv"]).open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == list(range(1, STEPS + 1))


def test_continued_adapter_starts_where_its_parent_ended(finished, tmp_path):
    parent, events = finished
    best = {step: event["full_valid_loss"] for step, event in steps(events).items()
            if "full_valid_loss" in event}[events[-1]["best_step"]]  # fmt: skip
    folder = make_folder(
        tmp_path / "child",
        continue_from=str(parent / "model"),
        n_epochs=1,
        batch_size=8,
        learning_rate_multiplier=1e-6,
    )
    # One step over rows that are also the validation rows, at a rate that changes nothing.
    (folder / "train.jsonl").write_text((folder / "validation.jsonl").read_text())

    first = steps(train(folder))[1]

    assert first["train_loss"] == pytest.approx(best, rel=1e-4)
    assert first["full_valid_loss"] == pytest.approx(best, rel=1e-3)


def test_run_that_validation_no_longer_follows_stops_and_keeps_its_best_step(tmp_path):
    """Validation wants answers that training makes less likely with every epoch."""
    folder = make_folder(tmp_path / "diverging", n_epochs=8, batch_size=4, save_seconds=60)
    other = example(0)
    other["messages"][1]["content"] = "I am happy to help you find a flat in Bern."
    (folder / "validation.jsonl").write_text(json.dumps(other) + "\n")

    events = train(folder)

    losses = {
        step: event["full_valid_loss"]
        for step, event in steps(events).items()
        if "full_valid_loss" in event
    }
    last = events[-1]
    assert last["stopped_early"] is True
    assert last["step"] < 16
    assert last["best_step"] == min(losses, key=losses.get) < last["step"]
    manifest = json.loads((Path(last["path"]) / "manifest.json").read_text())
    assert manifest["step"] == last["best_step"]


def test_exports_answer_alike_in_peft_and_llama_cpp(finished):
    """The base is read by transformers and by llama.cpp, so this also holds our reading of it."""
    import torch
    import xllamacpp
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder, events = finished
    model = AutoModelForCausalLM.from_pretrained(
        str(BASE.gguf_path.parent), gguf_file=BASE.gguf_path.name, dtype=torch.float32
    )
    first = reference_loss(model, events, step=1)
    assert first == pytest.approx(steps(events)[1]["train_loss"], rel=1e-3)

    tuned = PeftModel.from_pretrained(model, str(folder / "model"))
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(BASE.gguf_path)
    parameters.n_ctx, parameters.n_parallel = 256, 1
    adapter = str(folder / "model" / "adapter.gguf")
    parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(adapter, 1.0)]
    server = xllamacpp.Server(parameters)
    for number in (0, 5):
        prompt = render(BASE, example(number)["messages"][:1], add_generation_prompt=True)
        token_ids = torch.tensor([prompt.token_ids])
        answer = tuned.generate(token_ids, max_new_tokens=12, do_sample=False)
        text = decode(BASE, answer[0, token_ids.shape[1] :].tolist()).split("<|im_end|>")[0]
        assert text.startswith('{"city"')
        assert complete(server.listening_address, prompt.token_ids) == text


def reference_loss(model, events, *, step):
    """Loss of the untouched base over the rows of a step: what a fresh adapter must measure."""
    import torch

    from services.finetuning.train.batches import batch_of_step

    total, targets = 0.0, 0
    for number in batch_of_step(step, n_rows=len(CITIES), batch_size=2, seed=PLAN["seed"]):
        row = render(BASE, example(number)["messages"], add_generation_prompt=False)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row.token_ids])).logits[0, :-1]
        kept = torch.tensor(row.trained[1:])
        wanted = torch.tensor(row.token_ids[1:])[kept]
        total += float(torch.nn.functional.cross_entropy(logits[kept], wanted, reduction="sum"))
        targets += len(wanted)
    return total / targets


def complete(address, token_ids):
    body = {"prompt": token_ids, "n_predict": 12, "temperature": 0}
    request = urllib.request.Request(
        f"{address}/completion",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:
        return json.load(response)["content"]


def test_plan_that_cannot_be_followed_ends_with_a_failed_event(tmp_path):
    folder = make_folder(tmp_path / "bad", base="gpt-2")
    process = start(folder)

    events = [json.loads(line) for line in process.stdout]

    assert process.wait() == 1
    assert [(event["event"], event["code"]) for event in events] == [("failed", "base_not_found")]


def preference(number):
    asked = [{"role": "user", "content": f"Flat in {CITIES[number]}, {number + 2} rooms"}]
    answers = (f'{{"city": "{CITIES[number]}"}}', f"It is a flat in {CITIES[number]}.")
    chosen, rejected = ([{"role": "assistant", "content": text}] for text in answers)
    return {
        "input": {"messages": asked},
        "preferred_output": chosen,
        "non_preferred_output": rejected,
    }


def make_preferences(folder):
    make_folder(folder, method="dpo", beta=0.1, n_epochs=3, learning_rate_multiplier=1.5)
    lines = [json.dumps(preference(number)) + "\n" for number in range(len(CITIES))]
    (folder / "train.jsonl").write_text("".join(lines))
    (folder / "validation.jsonl").write_text("".join(lines[:2]))
    return folder


def test_preferences_are_learned_and_a_killed_run_ends_like_a_whole_one(tmp_path):
    whole = steps(train(make_preferences(tmp_path / "whole")))
    last = max(whole)

    assert whole[1]["train_loss"] == pytest.approx(0.6931, abs=1e-3)
    assert whole[last]["train_loss"] < 0.5
    assert whole[last]["train_mean_token_accuracy"] == 1.0
    assert whole[last]["full_valid_mean_token_accuracy"] == 1.0

    folder = make_preferences(tmp_path / "killed")
    _, code = train_until(folder, step=5, send=signal.SIGKILL)
    assert code == -signal.SIGKILL
    resumed = steps(train(folder))
    assert min(resumed) > 1
    assert resumed[last]["train_loss"] == pytest.approx(whole[last]["train_loss"], rel=1e-3)
