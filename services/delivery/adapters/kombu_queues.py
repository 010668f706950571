"""Subscribers' queues over kombu: plain JSON bodies, one key prefix per project."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kombu import Connection, Producer

from services.delivery.adapters.broker_errors import mapped_broker_errors
from services.delivery.domain import full_queue_name, key_prefix


class KombuQueues:
    """Publishes through the default exchange, so that a wiped binding loses nothing."""

    def __init__(self, bus_url: str, broker_prefix: str, transport_options: dict[str, Any]) -> None:
        """
        Args:
            bus_url: Redis URL.
            broker_prefix: Of every key of ours in it.
            transport_options: Timeouts as in `shared.broker`.
        """
        self._bus_url = bus_url
        self._prefix = broker_prefix
        self._options = transport_options
        self._connections: dict[str, Connection] = {}

    def depth(self, project: str, queue: str) -> int:
        with mapped_broker_errors(), self._connection(project).channel() as channel:
            declared = channel.queue_declare(full_queue_name(project, queue))
            return int(declared.message_count)

    def publish(self, project: str, queue: str, envelopes: Sequence[dict[str, Any]]) -> None:
        name = full_queue_name(project, queue)
        with mapped_broker_errors(), self._connection(project).channel() as channel:
            producer = Producer(channel, serializer="json")
            for envelope in envelopes:
                producer.publish(envelope, routing_key=name, message_id=envelope["id"])

    def _connection(self, project: str) -> Connection:
        if project not in self._connections:
            options = {**self._options, "global_keyprefix": key_prefix(self._prefix, project)}
            self._connections[project] = Connection(self._bus_url, transport_options=options)
        return self._connections[project]
