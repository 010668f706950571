"""How long a loop of the delivery process waits between rounds."""

from __future__ import annotations

import threading

from services.delivery import loop
from services.delivery.loop import Loop


def test_a_loop_is_quick_while_there_is_work_and_a_moment_longer(monkeypatch):
    work = [0, 1, 0, 0]
    ringing = Loop("ring", lambda: work.pop(0), 10.0, threading.Event())
    assert ringing._round() == 10.0
    assert ringing._round() == 2.0
    assert ringing._round() == 2.0
    monkeypatch.setattr(loop, "_BUSY_SECONDS", 0.0)
    assert ringing._round() == 10.0
