from __future__ import annotations

import json

from services.finetuning.service.training import Recorded
from services.finetuning.trainer.replay import missed_lines


def _journal(folder, n_steps):
    lines = [
        json.dumps({"step": step, "total_steps": 9, "train_loss": step / 10, "seconds": 1.0})
        for step in range(1, n_steps + 1)
    ]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    for step in (2, 4):
        (folder / "checkpoints" / f"step-{step}").mkdir(parents=True)


def _told(lines):
    return [(line.event, line.step) for line in lines]


def test_steps_and_checkpoints_nobody_wrote_down_are_told_in_order(tmp_path):
    _journal(tmp_path, 5)
    missed = missed_lines(tmp_path, Recorded(last_step=3, checkpoints=frozenset({2})))
    assert _told(missed) == [("step", 4), ("checkpoint", 4), ("step", 5)]
    assert missed[1].metrics["train_loss"] == 0.4
    assert missed[1].path == tmp_path / "checkpoints" / "step-4"


def test_checkpoint_of_a_recorded_step_is_told_alone(tmp_path):
    _journal(tmp_path, 4)
    missed = missed_lines(tmp_path, Recorded(last_step=4, checkpoints=frozenset({2})))
    assert _told(missed) == [("checkpoint", 4)]


def test_checkpoint_after_the_saved_state_is_left_to_the_child(tmp_path):
    _journal(tmp_path, 3)
    missed = missed_lines(tmp_path, Recorded(last_step=3, checkpoints=frozenset({2})))
    assert missed == []


def test_new_folder_has_nothing_to_tell(tmp_path):
    assert missed_lines(tmp_path, Recorded(last_step=0, checkpoints=frozenset())) == []
