"""Release 0.1.0 as it was: its code from the history, its processes on today's servers."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.faults.stack import ROOT

# The commit that wrote the release's entry in the change log.
_SUBJECT = "List what 0.1.0 brings"


@contextlib.contextmanager
def checked_out(folder: Path) -> Iterator[str]:
    """
    The release in *folder*, for the length of a block.

    Yields:
        Why it is not there; empty when it is.
    """
    found = _git("log", "--format=%H", f"--grep=^{_SUBJECT}$", "--", "CHANGELOG.md")
    if found.returncode or not found.stdout.strip():
        yield f"the history does not reach back to {_SUBJECT!r}"
        return
    commit = found.stdout.split()[-1]
    added = _git("worktree", "add", "--detach", str(folder), commit)
    if added.returncode:
        yield f"no working tree of 0.1.0: {added.stderr.strip()}"
        return
    try:
        yield ""
    finally:
        _git("worktree", "remove", "--force", str(folder))


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False
    )


def of_release(folder: Path) -> tuple[str, ...]:
    """
    Environment variables under which `shared` and `services` are the release's.

    The suite's own modules are found behind them, because `tests` is a package without a file.
    Settings that 0.1.0 does not know have no effect on it.
    """
    return (f"PYTHONPATH={folder}:{ROOT}", "PYTHONSAFEPATH=1")
