"""What the trainer reads and leaves on disk."""

from __future__ import annotations

import json

import pytest
import torch

from services.finetuning.train.metrics import Journal, write_result_file
from services.finetuning.train.rows import read_pairs, read_rows
from services.finetuning.train.state import Progress, load_state, save_state
from services.finetuning.train.stopping import Evaluation
from shared.errors import Invalid
from shared.rendering.bases import find_base

BASE = find_base("smollm2-135m-instruct")
USER = {"role": "user", "content": "What is the capital of France?"}
ANSWER = {"role": "assistant", "content": "Paris."}


def write(tmp_path, *lines):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_rows_are_read_past_a_byte_order_mark_and_blank_lines(tmp_path):
    path = write(tmp_path, "\ufeff" + json.dumps({"messages": [USER, ANSWER]}), "")

    rows, notices = read_rows(BASE, path, 100)

    assert len(rows) == 1
    assert notices == []


@pytest.mark.parametrize("line", ["{", "[]", '{"prompt": "x"}', '{"messages": [{"role": "x"}]}'])
def test_bad_line_is_named(tmp_path, line):
    path = write(tmp_path, json.dumps({"messages": [USER, ANSWER]}), line)

    with pytest.raises(Invalid, match="line 2") as caught:
        read_rows(BASE, path, 100)

    assert caught.value.code == "invalid_training_file"


def test_cut_rows_and_rows_without_target_are_noticed(tmp_path):
    long = {"messages": [USER, {"role": "assistant", "content": "Paris. " * 50}]}
    silent = {"messages": [USER, ANSWER | {"weight": 0}]}
    path = write(tmp_path, json.dumps(long), json.dumps(silent))

    rows, notices = read_rows(BASE, path, 30)

    assert [len(row.token_ids) for row in rows] == [30]
    assert [(notice.code, notice.message.split("(")[1]) for notice in notices] == [
        ("rows_truncated", "lines 1)."),
        ("rows_without_target", "lines 2)."),
    ]


def test_characters_that_end_a_line_elsewhere_end_none_here(tmp_path):
    text = "one\u2028two\u2029three\x85four"
    row = {"messages": [USER, {"role": "assistant", "content": text}]}
    path = write(tmp_path, json.dumps(row, ensure_ascii=False), json.dumps(row))

    rows, _ = read_rows(BASE, path, 100)

    assert len(rows) == 2
    assert rows[0] == rows[1]


def test_tools_of_a_row_are_rendered(tmp_path):
    row = {"messages": [USER, ANSWER]}
    tools = [{"type": "function", "function": {"name": "look_up"}}]
    path = write(tmp_path, json.dumps(row), json.dumps({**row, "tools": tools}))

    (bare, told), notices = read_rows(BASE, path, 200)

    assert told.n_tokens > bare.n_tokens
    assert told.n_targets == bare.n_targets
    assert notices == []


def test_answers_of_a_preference_alone_are_learned(tmp_path):
    pair = {
        "input": {"messages": [USER, ANSWER, USER]},
        "preferred_output": [ANSWER],
        "non_preferred_output": [{"role": "assistant", "content": "No."}],
    }
    path = write(tmp_path, json.dumps(pair))

    ((found,), notices) = read_pairs(BASE, path, 100)

    assert notices == []
    (single,), _ = read_rows(BASE, write(tmp_path, json.dumps({"messages": [USER, ANSWER]})), 100)
    assert found.chosen.n_targets == single.n_targets
    assert (
        found.chosen.token_ids[: found.chosen.first_target]
        == (found.rejected.token_ids[: found.rejected.first_target])
    )
    with pytest.raises(Invalid, match="line 1 is no preference"):
        read_pairs(BASE, write(tmp_path, json.dumps({"messages": [USER, ANSWER]})), 100)


def test_file_with_nothing_to_learn_is_refused(tmp_path):
    path = write(tmp_path, json.dumps({"messages": [USER]}))

    with pytest.raises(Invalid) as caught:
        read_rows(BASE, path, 100)

    assert caught.value.code == "no_trainable_rows"


def test_state_comes_back_as_it_was_saved(tmp_path):
    path = tmp_path / "state.safetensors"
    progress = Progress("f", 3, (Evaluation(2, 0.125),), 77)

    assert load_state(path) is None
    save_state(path, progress, {"a": torch.arange(3.0)})
    loaded, tensors = load_state(path)

    assert loaded == progress
    assert tensors["a"].tolist() == [0, 1, 2]
    assert [file.name for file in tmp_path.iterdir()] == ["state.safetensors"]


def test_journal_forgets_what_the_saved_state_does_not_know(tmp_path):
    path = tmp_path / "metrics.jsonl"
    journal = Journal(path, last_step=0)
    for step in (1, 2, 3):
        journal.append({"step": step, "train_loss": step / 2})
    with path.open("a") as file:
        file.write('{"step": 4, "tr')  # cut off by a kill

    journal = Journal(path, last_step=2)

    assert [record["step"] for record in journal.read()] == [1, 2]


def test_result_file_leaves_blank_what_was_not_measured(tmp_path):
    path = tmp_path / "result.csv"

    write_result_file(path, [{"step": 1, "train_loss": 0.5, "total_steps": 1}])

    assert path.read_text().splitlines() == [
        (
            "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy,full_valid_loss,"
            "full_valid_mean_token_accuracy,learning_rate,grad_norm,tokens,seconds"
        ),
        "1,0.5,,,,,,,,,",
    ]
