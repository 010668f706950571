"""What delivery needs from the broker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from services.delivery.domain import Due


class Bell(Protocol):
    """Wakes workers."""

    def ring(self, due: Due) -> None:
        """
        Send the task of *due* to its queue.

        Raises:
            Unavailable: The broker does not take it.
        """
        ...

    def waiting(self, queues: Sequence[str]) -> dict[str, int]:
        """
        Ringings in each queue that no worker has fetched.

        Raises:
            Unavailable: The broker does not answer.
        """
        ...

    def has_lost_memory(self) -> bool:
        """
        Whether the broker lost what it held since `mark_memory`.

        Raises:
            Unavailable: The broker does not answer.
        """
        ...

    def mark_memory(self) -> None:
        """Leave a mark that vanishes together with everything else the broker holds."""
        ...


class SubscriberQueues(Protocol):
    """Named queues that other programs read."""

    def depth(self, project: str, queue: str) -> int:
        """
        Events waiting in the queue.

        Raises:
            Unavailable: The broker does not answer.
        """
        ...

    def publish(self, project: str, queue: str, envelopes: Sequence[dict[str, Any]]) -> None:
        """
        Append events, in order.

        Raises:
            Unavailable: The broker did not take all of them.
        """
        ...
