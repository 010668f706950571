"""The control's load: tasks published to plain Celery, and what became of them."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from shared.ids import uuid7
from tests.faults.stack import Stack
from tests.faults.watching import until

QUEUE = "drift"
TASK = f"{QUEUE}.plain"


@dataclass
class PlainLoad:
    """
    Publishes tasks; *accepted* is what the broker took.

    Attributes:
        rate: Tasks a second.
        accepted: Numbers whose publishing returned.
        unknown: Numbers whose publishing failed, which may have arrived all the same.
    """

    stack: Stack
    celery: Celery
    chance: random.Random
    rate: float
    accepted: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    _stopping: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Publishes for the length of a block."""
        sender = threading.Thread(target=self._send_on, daemon=True)
        sender.start()
        try:
            yield
        finally:
            self._stopping.set()
            sender.join(timeout=30)
            assert not sender.is_alive(), "the sender hangs"

    def _send_on(self) -> None:
        while not self._stopping.wait(self.chance.expovariate(self.rate)):
            self.publish()

    def publish(self, count: int = 1) -> None:
        """Send *count* tasks, each once."""
        for _ in range(count):
            number = str(uuid7())
            try:
                self.celery.send_task(TASK, args=[number], queue=QUEUE, retry=False)
            except (OperationalError, RedisError, OSError):
                self.unknown.add(number)
                self._stopping.wait(0.1)
            else:
                self.accepted.add(number)

    def effects(self) -> Counter[str]:
        """How often each accepted number took effect."""
        rows = self.stack.rows("SELECT number FROM faults.effects WHERE kind = 'plain'")
        return Counter(number for (number,) in rows if number in self.accepted)

    def await_rest(self, seconds: float) -> set[str]:
        """What is not done, once nothing has been done for *seconds*; the broker had its time."""
        began = time.time()

        def is_over() -> bool:
            latest = self.stack.rows(
                "SELECT extract(epoch FROM max(at))::float8 FROM faults.effects"
            )
            quiet = time.time() - max(began, latest[0][0] or 0.0)
            return quiet > seconds or self.accepted <= set(self.effects())

        until(is_over, what="the control comes to rest", seconds=600, pause=0.5)
        return self.accepted - set(self.effects())
