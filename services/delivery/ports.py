"""What delivery needs from the broker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from services.delivery.domain import BusState, Due


class Bell(Protocol):
    """Wakes workers."""

    def ring(self, messages: Sequence[Sequence[Due]]) -> None:
        """
        Send messages, each with the deliveries of one queue that it rings.

        Raises:
            Unavailable: The broker did not take all of them.
        """
        ...

    def look(self, queues: Sequence[str]) -> BusState:
        """
        What the broker holds.

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
