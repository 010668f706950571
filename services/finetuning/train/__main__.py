"""`python -m services.finetuning.train <folder>`: events as JSON lines on standard output."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from shared.errors import PerpetuneError


def main(folder: Path) -> int:
    """
    Runs the trainer. Returns the exit code: 0 finished or stopped, 1 failed.

    SIGTERM and SIGINT end the run after the step in progress, with its state saved. Errors that
    are nobody's input leave a traceback on standard error and exit code 1 as well.
    """
    stops: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        stops.append(number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    # Threads that wait for each other spin by default, for milliseconds. Where the cores are shared
    # with a server they then spin against the very thread they wait for. One reading each on two
    # cores, seconds a step with 0, 600 and 20,000 rounds of spinning: alone 4.1, 3.7 and 3.6,
    # beside one busy process 6.6, 6.7 and 12.8. Read when torch is loaded, hence the late import.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "600")
    from services.finetuning.train.loop import run  # noqa: PLC0415

    try:
        run(folder, emit, lambda: bool(stops))
    except PerpetuneError as error:
        return fail(error.code, error.message)
    except FloatingPointError as error:
        return fail("training_diverged", str(error))
    except OSError as error:
        return fail("storage_error", f"{error.filename or folder}: {error.strerror or error}.")
    return 0


def emit(event: dict[str, Any]) -> None:
    """One event, flushed at once: the reader renews its lease by it."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def fail(code: str, message: str) -> int:
    """Reports why there is no adapter; the exit code is 1."""
    emit({"event": "failed", "code": code, "message": message})
    return 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m services.finetuning.train <folder>")
    sys.exit(main(Path(sys.argv[1])))
