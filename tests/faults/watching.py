"""What the processes of a stack are doing, seen from outside, and waiting for it."""

from __future__ import annotations

import contextlib
import os
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psycopg
import redis

from shared.errors import Unavailable

T = TypeVar("T")


def is_ready(port: int) -> bool:
    """Whether the gateway on a port takes requests."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def group_of(pid: int) -> int:
    """Of a process of ours and its children; 0 for one that has ended."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def until(
    condition: Callable[[], T], *, what: str, seconds: float = 30.0, pause: float = 0.05
) -> T:
    """Wait for *condition* and return its value; a server that is down makes it false."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            value = condition()
        except (psycopg.OperationalError, redis.ConnectionError, Unavailable):
            value = None  # type: ignore[assignment]
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(pause)


def children(pid: int) -> list[int]:
    """Process ids of the living children of a process."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return [int(child) for file in lists for child in file.read_text().split()]
    return []


def is_in_stage(pid: int | None, wanted: str) -> bool:
    """Whether a process or a child of it calls itself so; see `probes.stage`."""
    return pid is not None and any(_comm(one) == wanted for one in (pid, *children(pid)))


def _comm(pid: int) -> str:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be noticed by its parent does not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in "ZX"
    return False
