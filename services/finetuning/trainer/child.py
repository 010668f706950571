"""The child process: started at a low priority, tied to us, read line by line, stopped surely."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from shared.lifeline import end_with_parent

_READ_BYTES = 65_536


class Child:
    """`python -m services.finetuning.train <folder>`; stopped when the `with` block is left."""

    def __init__(
        self, folder: Path, lock: int, *, log: Path, nice: int, stop_seconds: float
    ) -> None:
        """
        Args:
            folder: With plan and rows.
            log: File to which the child's standard error is appended.
            lock: Descriptor that holds the folder's lock; kept open by the child as well.
            nice: Priority, 0 ordinary to 19 last.
            stop_seconds: How long a stopping child may take to save its state.
        """
        self._stop_seconds = stop_seconds
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services.finetuning.train", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                pass_fds=(lock,),
                env=_environment(),
                preexec_fn=lambda: _settle(nice),  # noqa: PLW1509 - calls the kernel only
            )
        assert self._process.stdout is not None
        self._output = self._process.stdout.fileno()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def lines(self, tick_seconds: float) -> Iterator[str | None]:
        """Each line; None after every *tick_seconds* of silence; ends with the child's output."""
        rest = b""
        while True:
            ready, _, _ = select.select([self._output], [], [], tick_seconds)
            if not ready:
                yield None
                continue
            data = os.read(self._output, _READ_BYTES)
            if not data:
                return
            *complete, rest = (rest + data).split(b"\n")
            yield from (line.decode(errors="replace") for line in complete)

    def stop(self) -> int:
        """Ask the child to save and end, insist after a while; returns its exit code."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                # Reads what is left, so that a child with much to say does not block on it.
                self._process.communicate(timeout=self._stop_seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return self._process.wait()


def _environment() -> dict[str, str]:
    """The child knows files only: no database addresses, no secrets."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PERPETUNE_")}


def _settle(nice: int) -> None:
    # Runs in the child before its program. The kernel kills it when our main thread ends, so that
    # it never outlives a killed trainer and works against the next one.
    end_with_parent()
    os.setpriority(os.PRIO_PROCESS, 0, max(nice, os.getpriority(os.PRIO_PROCESS, 0)))
