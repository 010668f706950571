"""Ties a child process to its parent: it must not outlive it, however the parent ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent_pid: int) -> None:
    """
    Ask the kernel to kill this process when its parent ends. Call it before any other work.

    The kernel watches the thread that started us, so the parent must start children from a thread
    that lives as long as itself: its main thread.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died before the kernel was asked.
    if os.getppid() != parent_pid:
        os._exit(1)
