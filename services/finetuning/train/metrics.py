"""Measurements of every step: a journal that survives a kill, and the result file made from it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

# OpenAI's five columns first and in its order.
_COLUMNS = {
    "step": "step",
    "train_loss": "train_loss",
    "train_accuracy": "train_mean_token_accuracy",
    "valid_loss": "valid_loss",
    "valid_mean_token_accuracy": "valid_mean_token_accuracy",
    "full_valid_loss": "full_valid_loss",
    "full_valid_mean_token_accuracy": "full_valid_mean_token_accuracy",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "tokens": "tokens",
    "seconds": "seconds",
}


class Journal:
    """One JSON line a step, appended."""

    def __init__(self, path: Path, *, last_step: int) -> None:
        """Keeps the steps up to *last_step*; later ones are measured again after a kill."""
        self._path = path
        kept = [record for record in self.read() if record["step"] <= last_step]
        temporary = path.with_suffix(".partial")
        temporary.write_text("".join(json.dumps(record) + "\n" for record in kept))
        temporary.replace(path)

    def append(self, record: dict[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """All records; a line cut off by a kill ends the list."""
        records: list[dict[str, Any]] = []
        if not self._path.exists():
            return records
        for line in self._path.read_text().splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                break
        return records


def write_result_file(path: Path, records: list[dict[str, Any]]) -> None:
    """CSV with one row a step; what was not measured is blank."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for record in records:
            writer.writerow([record.get(key, "") for key in _COLUMNS.values()])
