"""One mapping of what Redis, kombu and Celery raise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kombu.exceptions import BatchPublishError, OperationalError
from redis.exceptions import RedisError

from shared.errors import Unavailable


@contextmanager
def mapped_broker_errors() -> Iterator[None]:
    """
    Raises:
        Unavailable: For every failure of the broker; deliveries wait in Postgres meanwhile.
    """
    try:
        yield
    # A ValueError is what redis-py makes of bytes that are no answer: the way here spoilt them.
    except (BatchPublishError, OperationalError, RedisError, OSError, ValueError) as error:
        raise Unavailable(
            f"The bus does not take messages ({type(error).__name__}: {error}); "
            "deliveries wait in Postgres. Check PERPETUNE_BUS_URL and the server behind it.",
            code="bus_unavailable",
        ) from error
