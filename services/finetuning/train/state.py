"""
The saved state of a run: adapter, optimizer and progress in one file, replaced atomically.

The order of rows and the learning rate follow from seed and step, and nothing else draws random
numbers after the adapter was made; so the step is the whole cursor.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from services.finetuning.train.stopping import Evaluation


@dataclass(frozen=True)
class Progress:
    """
    How far a run is.

    Attributes:
        fingerprint: Of plan and data; a state of another run is refused.
        step: Last finished step.
        history: Full evaluations so far, oldest first.
        trained_tokens: Tokens of all rows seen, repeats counted.
    """

    fingerprint: str
    step: int = 0
    history: tuple[Evaluation, ...] = ()
    trained_tokens: int = 0


def save_state(path: Path, progress: Progress, tensors: Mapping[str, Tensor]) -> None:
    """Writes beside *path*, then renames: a kill leaves the old state or the new one."""
    document = {
        "fingerprint": progress.fingerprint,
        "step": progress.step,
        "history": [[evaluation.step, evaluation.loss] for evaluation in progress.history],
        "trained_tokens": progress.trained_tokens,
    }
    temporary = path.with_suffix(".partial")
    cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(cpu, temporary, metadata={"progress": json.dumps(document)})
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def load_state(path: Path) -> tuple[Progress, dict[str, Tensor]] | None:
    """The saved state, or None when there is none yet."""
    if not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        document = json.loads(file.metadata()["progress"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    history = tuple(Evaluation(step, loss) for step, loss in document.pop("history"))
    return Progress(history=history, **document), tensors
