"""Seals in child processes that kill themselves at the step they are told on standard input."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from sqlalchemy import event

from shared.audit.note import Signer
from shared.audit.sealing import Sealer
from shared.audit.witness import Witness
from shared.db import Units, make_engine
from shared.settings import CoreSettings


class Countdown:
    """Kills the process, as kill -9 does, when the last step is reached."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def step(self, *_arguments, **_options) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class WatchedWitness(Witness):
    """Steps before, in the middle of, and after each write."""

    def __init__(self, folder: Path, countdown: Countdown) -> None:
        super().__init__(folder)
        self._countdown = countdown

    def append(self, project: str, note: str) -> None:
        self._countdown.step()
        if self._countdown._left == 1:
            super().append(project, note[: len(note) // 2])
        self._countdown.step()
        super().append(project, note)
        self._countdown.step()


def seal(url: str, folder: Path, steps: int) -> None:
    """Two rounds, so that the second brings the witness up to date."""
    engine = make_engine(url, CoreSettings())
    countdown = Countdown(steps)
    for name in ("before_cursor_execute", "after_cursor_execute", "commit"):
        event.listen(engine, name, countdown.step)
    sealer = Sealer(
        Units(engine), Signer("perpetune.test", bytes(range(32))), WatchedWitness(folder, countdown)
    )
    sealer.seal_all()
    countdown.step()
    sealer.seal_all()


def main() -> None:
    url, folder = sys.argv[1], Path(sys.argv[2])
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            seal(url, folder, int(line))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        outcome = "killed" if killed else "done" if status == 0 else f"failed {status}"
        sys.stdout.write(f"{outcome}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
