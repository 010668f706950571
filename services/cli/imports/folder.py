"""The folder of an import in the home: what was fetched, what was chosen, and the reports."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Folder:
    """
    A folder of which nothing is half written: a file is there as a whole or not at all.

    Attributes:
        path: Absolute. It holds customers' words, so it is nobody else's.
    """

    path: Path

    def create(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def journal(self) -> Path:
        return self.path / "journal.jsonl"

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def load(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def save(self, name: str, content: bytes) -> Path:
        """Write a file; one of that name is replaced."""
        target, half = self.path / name, self.path / f".{name}.part"
        with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        half.replace(target)
        return target
