"""A courier between ringers and workers, who carries ringings in the manner he is told.

Workers of the layout `BY_COURIER` listen under a prefix of their own, so that no ringing reaches
them but by him. What a ringing says is none of his business.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from shared.broker import ROOM_QUEUES, lists_of
from tests.faults.layout import Layout
from tests.faults.stack import Stack

_PREFIX = "perpetune:courier:"
_LOOK_SECONDS = 0.02
# What is fetched counts as taken by a worker, and ringers wait while nobody takes: so no more is
# fetched for a queue than its workers are about to take.
_MOST_HANDED = 16

BY_COURIER = Layout(
    wrapped=tuple(
        (f"worker-{number}", ("env", f"PERPETUNE_BROKER_PREFIX={_PREFIX}")) for number in (1, 2)
    )
)


@dataclass(frozen=True)
class Manner:
    """
    How ringings are carried.

    Attributes:
        delays: Seconds after which each copy of a ringing is handed over, anew for each ringing.
        shuffled: How many ringings are gathered and shuffled before any is handed over.
        gather_seconds: For how long they are gathered at most.
    """

    delays: Callable[[random.Random], Sequence[float]] = lambda _chance: (0.0,)
    shuffled: int = 1
    gather_seconds: float = 0.0


FAITHFUL = Manner()


@dataclass
class Courier:
    """
    Attributes:
        fetched: Ringings taken from the ringers.
        handed: Ringings given to the workers, by queue.
        most_shuffled: The largest number that was shuffled at once.
    """

    stack: Stack
    chance: random.Random
    fetched: Counter[str] = field(default_factory=Counter)
    handed: Counter[str] = field(default_factory=Counter)
    most_shuffled: int = 0
    _manner: Manner = FAITHFUL
    _waiting: list[tuple[float, int, str, bytes]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @contextlib.contextmanager
    def on_duty(self) -> Iterator[None]:
        """Carries for the length of a block."""
        stopping = threading.Event()
        broken: list[BaseException] = []

        def work() -> None:
            try:
                while not stopping.is_set() or self._waiting:
                    self._carry()
            except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
                broken.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()
        assert not broken, broken

    @contextlib.contextmanager
    def carrying(self, manner: Manner) -> Iterator[None]:
        """In this manner for the length of a block, faithfully afterwards."""
        self._manner = manner
        try:
            yield
        finally:
            self._manner = FAITHFUL

    def _carry(self) -> None:
        manner = self._manner
        gathered = self._gathered(manner)
        if manner.shuffled > 1:
            self.chance.shuffle(gathered)
            self.most_shuffled = max(self.most_shuffled, len(gathered))
        for queue, ringing in gathered:
            for seconds in manner.delays(self.chance):
                due = time.monotonic() + seconds
                heapq.heappush(self._waiting, (due, next(self._numbers), queue, ringing))
        self._hand_over()

    def _gathered(self, manner: Manner) -> list[tuple[str, bytes]]:
        prefix = self.stack.settings.broker_prefix
        gathered: list[tuple[str, bytes]] = []
        deadline = time.monotonic() + manner.gather_seconds
        while True:
            lists = {name: queue for queue in self._open_queues() for name in lists_of(queue)}
            keys = [f"{prefix}{name}" for name in lists]
            found = self.stack.bus.brpop(keys, timeout=_LOOK_SECONDS) if keys else None
            if found:
                queue = lists[found[0].decode().removeprefix(prefix)]
                self.fetched[queue] += 1
                gathered.append((queue, found[1]))
            if len(gathered) >= manner.shuffled or time.monotonic() >= deadline:
                return gathered

    def _open_queues(self) -> list[str]:
        with self.stack.bus.pipeline(transaction=False) as pipeline:
            for queue in ROOM_QUEUES:
                pipeline.llen(f"{_PREFIX}{queue}")
            lengths = zip(ROOM_QUEUES, pipeline.execute(), strict=True)
        return [queue for queue, length in lengths if length < _MOST_HANDED]

    def _hand_over(self) -> None:
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            _due, _number, queue, ringing = heapq.heappop(self._waiting)
            self.stack.bus.lpush(f"{_PREFIX}{queue}", ringing)
            self.handed[queue] += 1
