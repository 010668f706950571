"""A step repeated until told to stop; waits out Postgres and the broker."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from shared.errors import Unavailable
from shared.logging import get_logger

log = get_logger(__name__)

_AWAY_SECONDS = 0.5
# Work brings work: the next place in the window, the next of a lane, the answer to a message.
_BUSY_SHARE = 0.2
_BUSY_SECONDS = 1.0


class Loop(threading.Thread):
    """
    One of the process's loops. A bug ends all of them, so that a supervisor starts anew.

    Attributes:
        has_crashed: Whether it ended by a bug.
    """

    def __init__(
        self, name: str, step: Callable[[], int], seconds: float, stop: threading.Event
    ) -> None:
        """
        Args:
            name: For the log.
            step: Does one round and returns how much there was to do.
            seconds: Pause between rounds, when there was no work for a second.
            stop: Ends the loop; set by the loop when it crashes.
        """
        super().__init__(name=name)
        self._step = step
        self._seconds = seconds
        self._stopped = stop
        self._is_away = False
        self._worked_at = -math.inf
        self.has_crashed = True

    def run(self) -> None:
        try:
            while not self._stopped.wait(self._round()):
                pass
            self.has_crashed = False
        finally:
            self._stopped.set()

    def _round(self) -> float:
        try:
            done = self._step()
        except Unavailable as error:
            if not self._is_away:
                log.warning("delivery_waits", loop=self.name, reason=error.message)
            self._is_away = True
            return _AWAY_SECONDS
        if self._is_away:
            log.info("delivery_goes_on", loop=self.name)
        self._is_away = False
        now = time.monotonic()
        if done:
            self._worked_at = now
        return self._seconds * (_BUSY_SHARE if now - self._worked_at < _BUSY_SECONDS else 1.0)
