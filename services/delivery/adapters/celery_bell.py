"""The bell as a Celery task that carries only an id. The one module that publishes tasks."""

from __future__ import annotations

from collections.abc import Sequence

from celery import Celery
from redis import Redis

from services.delivery.adapters.broker_errors import mapped_broker_errors
from services.delivery.domain import Due


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

    def ring(self, due: Due) -> None:
        with mapped_broker_errors():
            # A failed publish is not repeated here: the row stays due.
            self._celery.send_task(due.task, args=[due.id], queue=due.queue, retry=False)

    def waiting(self, queues: Sequence[str]) -> dict[str, int]:
        with mapped_broker_errors(), self._redis.pipeline(transaction=False) as pipeline:
            for queue in queues:
                # kombu keeps a queue without priorities in a list of its name.
                pipeline.llen(f"{self._prefix}{queue}")
            return dict(zip(queues, pipeline.execute(), strict=True))

    def has_lost_memory(self) -> bool:
        with mapped_broker_errors():
            return not self._redis.exists(self._mark)

    def mark_memory(self) -> None:
        with mapped_broker_errors():
            self._redis.set(self._mark, "1")
