"""Ties a child process to its parent: it must not outlive it, however the parent ends.

The kernel watches the thread that started the child, so a parent must start its children from a
thread that lives as long as itself: its main thread.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Opened here, because between fork and exec nothing may be loaded.
_LIBC = ctypes.CDLL(None)


def end_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends; safe between fork and exec."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def die_with_parent(parent_pid: int) -> None:
    """As `end_with_parent`, in a program of its own. Call it before any other work."""
    end_with_parent()
    # The parent may have died before the kernel was asked.
    if os.getppid() != parent_pid:
        os._exit(1)
