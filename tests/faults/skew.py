"""Processes whose clock is wrong: libfaketime moves the time of day, and leaves durations alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_PROBE = "import time; print(time.time())"


@cache
def library() -> Path | None:
    """The library, if it is installed and can be loaded on this machine."""
    package = find_spec("libfaketime")
    if package is None or package.origin is None:
        return None
    found = Path(package.origin).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
    environment = {**os.environ, "LD_PRELOAD": str(found), "FAKETIME": "+2h"}
    shown = subprocess.run(
        [sys.executable, "-c", _PROBE], env=environment, capture_output=True, text=True, check=False
    )
    is_moved = shown.returncode == 0 and float(shown.stdout) - time.time() > 3600
    return found if is_moved else None


def by_clock(found: Path, clock: Path) -> tuple[str, ...]:
    """A prefix of commands: the process and its children go by *clock*, see `set_clock`."""
    set_clock(clock, "+0")
    return (
        "env",
        f"LD_PRELOAD={found}",
        f"FAKETIME_TIMESTAMP_FILE={clock}",
        "FAKETIME_CACHE_DURATION=1",
        # A wrong time of day is not a wrong duration; the kernel's monotonic clock stays right.
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
    )


def set_clock(clock: Path, offset: str) -> None:
    """
    Seen after a second at most.

    Args:
        clock: File of one process.
        offset: From the true time, for example `+2h` or `-2h`; `+0` is right.
    """
    written = clock.with_suffix(".new")
    written.write_text(f"{offset}\n")
    written.replace(clock)
