"""Waiting for what others do, never without an end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from services.cli.errors import CommandFailed

POLL_SECONDS = 0.3

T = TypeVar("T")


def wait_for(what: str, probe: Callable[[], T | None], *, timeout_seconds: float) -> T:
    """
    Ask until there is an answer.

    Args:
        what: Names what is waited for, in the error.
        probe: Returns None as long as it is not there.
        timeout_seconds: Longest wait.

    Raises:
        CommandFailed: It did not come in time.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        found = probe()
        if found is not None:
            return found
        if time.monotonic() >= deadline:
            raise CommandFailed(f"Waited {timeout_seconds:.0f} s for {what}; it did not come.")
        time.sleep(POLL_SECONDS)
