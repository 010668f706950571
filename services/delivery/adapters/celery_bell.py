"""The bell as a Celery task that carries only ids. The one module that publishes tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from celery import Celery
from redis import Redis

from services.delivery.adapters.broker_errors import mapped_broker_errors
from services.delivery.domain import BusState, Due, rank_of
from shared.broker import FURTHER, PRIORITIES, lists_of


class CeleryBell:
    """Rings through Celery; leaves its mark in the same Redis."""

    def __init__(self, celery: Celery, redis: Redis, prefix: str) -> None:
        """
        Args:
            celery: The application of `shared.broker`.
            redis: The server Celery publishes to.
            prefix: Of every key of ours in it.
        """
        self._celery = celery
        self._redis = redis
        self._prefix = prefix
        self._mark = f"{prefix}delivery.epoch"

    def ring(self, messages: Sequence[Sequence[Due]]) -> None:
        with (
            mapped_broker_errors(),
            self._celery.producer_pool.acquire(block=True) as producer,
            # One round trip for all of them.
            producer.batch(),
        ):
            for first, *further in messages:
                self._celery.send_task(
                    first.task,
                    args=[first.id],
                    headers={FURTHER: [due.id for due in further]} if further else None,
                    queue=first.queue,
                    producer=producer,
                    priority=PRIORITIES[rank_of(first.turn)],
                    # A failed publish is not repeated here: the rows stay due.
                    retry=False,
                )

    def look(self, queues: Sequence[str]) -> BusState:
        names = [(queue, name) for queue in queues for name in lists_of(queue)]
        with mapped_broker_errors(), self._redis.pipeline(transaction=False) as pipeline:
            pipeline.exists(self._mark)
            for _queue, name in names:
                pipeline.llen(f"{self._prefix}{name}")
            is_marked, *lengths = pipeline.execute()
        waiting: Counter[str] = Counter()
        for (queue, _name), length in zip(names, lengths, strict=True):
            waiting[queue] += length
        return BusState(not is_marked, waiting)

    def mark_memory(self) -> None:
        with mapped_broker_errors():
            self._redis.set(self._mark, "1")
