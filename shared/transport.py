"""kombu's Redis transport for workers, deaf to what is no ringing of ours and to nothing else.

kombu decodes what it pops from a queue outside of any guard, so a string that is no message ends
the worker; and a message whose body cannot be decoded ends it as well, is restored to its queue
by the exit, and ends the next one, for ever. Here both are logged and gone. So does a header of a
wrong type; and one of a right type is obeyed. Here a worker sees only what a ringing has to say.
Source: kombu 5.7.0, `kombu.transport.redis.Channel._brpop_read`; celery 5.7.0,
`celery.worker.strategy`.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from kombu import Message
from kombu.transport import redis, virtual
from redis.exceptions import OutOfMemoryError

from shared.broker import FURTHER, MOST_RUNG_TOGETHER
from shared.ids import uuid7
from shared.logging import get_logger

log = get_logger(__name__)

# All that a ringing has to say beside the id in its body.
_HEADERS = ("task", "id", FURTHER)


def is_ringing(raw: Any) -> bool:  # noqa: ANN401 - whatever JSON holds
    """Whether a decoded string of a queue is a task message that carries ids of deliveries."""
    try:
        properties, headers = raw["properties"], raw["headers"]
        body = base64.b64decode(raw["body"], validate=True)
        (delivery_id,), _keywords, _embedded = json.loads(body)
        further = headers.get(FURTHER, [])
        for one in (delivery_id, *further):
            uuid.UUID(one)
        return (
            isinstance(further, list)
            and len(further) < MOST_RUNG_TOGETHER
            and raw["content-type"] == "application/json"
            and raw["content-encoding"] == "utf-8"
            and properties["body_encoding"] == "base64"
            and isinstance(properties["delivery_tag"], str)
            and isinstance(properties["delivery_info"], dict)
            and isinstance(headers["task"], str)
            and isinstance(headers["id"], str)
        )
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return False


def plain(raw: dict[str, Any], queue: str) -> dict[str, Any]:
    """
    A ringing without all else that kombu and Celery would obey.

    When a task runs, for how long, what it calls next and where its message is restored to are
    settings of ours; nobody who can write to the bus shall say.

    Args:
        raw: A string of the queue for which `is_ringing` holds.
        queue: Where it was found, and is restored to.
    """
    (delivery_id,), *_ = json.loads(base64.b64decode(raw["body"]))
    body = json.dumps([[delivery_id], {}, {}])
    return {
        "body": base64.b64encode(body.encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {name: raw["headers"][name] for name in _HEADERS if name in raw["headers"]},
        "properties": {
            "body_encoding": "base64",
            # Two messages of one tag would be acknowledged as one.
            "delivery_tag": str(uuid7()),
            "delivery_info": {"exchange": "", "routing_key": queue},
        },
    }


class QoS(redis.QoS):  # type: ignore[misc]  # kombu ships no types
    """Holds a message, and gives its place back, although the bus cannot be told so.

    A bus that is full hands out messages and has no room to note who has them; kombu's worker ends
    of that. Ours works on: should it die, the row is rung again.

    Celery logs an acknowledgement that failed and goes on. kombu goes on counting the message as
    unfinished, and after as many as a worker may hold it neither listens nor notices that its
    connection is gone. The bus hands the message out again, and its row is gone by then.
    Source: kombu 5.7.0, `kombu.transport.redis.QoS` and `MultiChannelPoller.on_readable`.
    """

    def append(self, message: Message, delivery_tag: str) -> None:
        try:
            super().append(message, delivery_tag)
        except OutOfMemoryError:
            virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        with self._place_given_back(delivery_tag):
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        with self._place_given_back(delivery_tag):
            super().reject(delivery_tag, requeue)

    @contextmanager
    def _place_given_back(self, delivery_tag: str) -> Iterator[None]:
        try:
            yield
        except Exception:
            self._quick_ack(delivery_tag)
            raise


class Channel(redis.Channel):  # type: ignore[misc]  # as above
    """Hands on ringings only, and of them only what they have to say; serves queues in turn."""

    QoS = QoS
    _is_decoded = False

    def basic_consume(
        self,
        queue: str,
        no_ack: bool,  # noqa: FBT001 - kombu's signature
        callback: Callable[..., object],
        consumer_tag: str,
        **options: object,
    ) -> None:
        super().basic_consume(queue, no_ack, callback, consumer_tag, **options)
        hand_on = self.connection._callbacks[queue]  # noqa: SLF001 - the only place to stand

        def guarded(raw: Any) -> None:  # noqa: ANN401 - as above
            self._is_decoded = True
            if is_ringing(raw):
                hand_on(plain(raw, queue))
            else:
                log.error("bus_message_refused", queue=queue, reason="it is no ringing")

        self.connection._callbacks[queue] = guarded  # noqa: SLF001 - as above

    def _brpop_start(self, timeout: float | None = None) -> None:
        """
        Ask for all lists of one queue, then for those of the next.

        kombu asks for the first lists of all queues first, so a queue that always has something in
        its first list would starve the other lists of every other queue. After a fetch kombu puts
        that queue behind the others, from whichever of its lists it was.
        Source: kombu 5.7.0, `kombu.transport.redis.Channel._brpop_start`.
        """
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues:
            return
        lists = [self._q_for_pri(queue, step) for queue in queues for step in self.priority_steps]
        seconds = self.brpop_timeout if timeout is None else timeout
        command = ["BRPOP", *lists, seconds or 0]
        if self.global_keyprefix:
            command = self.client._prefix_args(command)  # noqa: SLF001 - as kombu does
        self._in_poll = self.client.connection
        self._brpop_sent_at = monotonic()
        self.client.connection.send_command(*command)

    def _brpop_read(self, **options: object) -> bool:
        self._is_decoded = False
        try:
            return bool(super()._brpop_read(**options))
        except (ValueError, RecursionError) as error:
            if self._is_decoded:
                raise
            log.error("bus_message_refused", reason=type(error).__name__)  # noqa: TRY400 - no trace
            return True


class Transport(redis.Transport):  # type: ignore[misc]  # as above
    """The Redis transport with our channel."""

    Channel = Channel
