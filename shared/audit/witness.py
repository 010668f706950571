"""The witness: checkpoints kept outside the database, one file of signed notes per log.

What the database is restored or rewritten to, these files still hold what was signed before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from shared.errors import Unavailable

# A write that was torn by a power cut matches nothing and is passed over: an Ed25519 signature
# with its key id has exactly 92 characters. Signatures of others may follow ours.
_NOTE = re.compile(
    r"^[^\n]+\n(?:0|[1-9][0-9]*)\n[A-Za-z0-9+/]{43}=\n"
    r"\n\N{EM DASH} \S+ [A-Za-z0-9+/]{91}=\n(?:\N{EM DASH} \S+ \S+\n)*",
    re.MULTILINE,
)
# Holds the last note and a torn one behind it; a note has about 250 bytes.
_TAIL_BYTES = 8192


def notes_in(text: str) -> Iterator[str]:
    """The signed checkpoints in *text*, in order; a file of one note is one too."""
    return (found[0] for found in _NOTE.finditer(text))


class Witness:
    """Appends to `<folder>/<project>.notes`; never changes what is there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, project: str) -> Path:
        return self._folder / f"{quote(project, safe='')}.notes"

    def last(self, project: str) -> str | None:
        """
        The note appended last.

        Raises:
            Unavailable: The file cannot be read, which is not the same as that there is none.
        """
        path = self.path(project)
        with _mapped_file_errors(path):
            try:
                with path.open("rb") as file:
                    file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
                    tail = file.read(_TAIL_BYTES).decode(errors="replace")
            except FileNotFoundError:
                return None
        return next(reversed(list(notes_in(tail))), None)

    def append(self, project: str, note: str) -> None:
        """
        Add *note* behind a blank line, so that what was torn before stays apart; durable.

        Raises:
            Unavailable: The file cannot be written; it may hold a part of the note.
        """
        path = self.path(project)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        with _mapped_file_errors(path):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # A volume that becomes full takes a part; a file object notices, `os.write` does not.
            with os.fdopen(os.open(path, flags, mode=0o600), "ab") as file:
                file.write(f"\n{note}".encode())
                file.flush()
                os.fsync(file.fileno())


@contextmanager
def _mapped_file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"The witness {path} cannot be read or written ({error.strerror}). Audit entries wait "
            "unsealed; give its volume room, or the file to the delivery process's user.",
            code="witness_unavailable",
        ) from error
