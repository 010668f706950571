"""The user's side of the bus: requests through the queue door, events from a queue of their own."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kombu import Connection, Producer
from kombu.transport.virtual import Channel

from services.cli.demo.listings import Case
from services.cli.demo.traffic import Answer, answered
from services.cli.errors import CommandFailed

_POLL_SECONDS = 0.05
_SOCKET_SECONDS = 10


class Bus:
    """The bus as an outside program reaches it with kombu."""

    def __init__(self, url: str, prefix: str) -> None:
        """
        Args:
            url: Of the bus, from the operator.
            prefix: Before every key; the queue door's senders use the server's own.
        """
        self._url = url
        self._prefix = prefix

    def ask(
        self, project: str, asked: Sequence[tuple[Case, dict[str, Any]]], *, timeout_seconds: float
    ) -> list[Answer]:
        """
        Put requests into the project's queue and wait for all answers.

        Raises:
            CommandFailed: An answer did not come in time, or was a refusal.
        """
        reply_to = f"demo.replies.{uuid.uuid4().hex}"
        waiting = {uuid.uuid4().hex: one for one in asked}
        with _channel(self._url, self._prefix) as channel:
            producer = Producer(channel, serializer="json")
            for request_id, (_, body) in waiting.items():
                producer.publish(
                    {"id": request_id, **body},
                    routing_key=f"inference.door.{project}",
                    reply_to=reply_to,
                    correlation_id=request_id,
                )
            answers = []
            for reply in _messages(channel, reply_to, timeout_seconds):
                answers.append(_answer(waiting.pop(reply["id"])[0], reply))
                if not waiting:
                    return answers
        raise CommandFailed(
            f"Waited {timeout_seconds:.0f} s for answers of the queue door; {len(waiting)} of "
            f"{len(asked)} did not come. Its log is door.log in the logs of the local stack."
        )

    @contextmanager
    def subscriber(self, queue: str, prefix: str) -> Iterator[Subscriber]:
        """
        A reader of a subscription's queue.

        Args:
            queue: The broker's name of it, from the subscription.
            prefix: The subscription's own key prefix.
        """
        with _channel(self._url, prefix) as channel:
            yield Subscriber(channel, queue)


class Subscriber:
    """Reads events from a queue, as they come."""

    def __init__(self, channel: Channel, queue: str) -> None:
        self._channel = channel
        self._queue = queue

    def read(self) -> list[dict[str, Any]]:
        """What has come since the last call."""
        return list(_messages(self._channel, self._queue, 0))


@contextmanager
def _channel(url: str, prefix: str) -> Iterator[Channel]:
    options = {"global_keyprefix": prefix, "socket_timeout": _SOCKET_SECONDS}
    with Connection(url, transport_options=options) as connection:
        yield connection.channel()


def _messages(channel: Channel, queue: str, timeout_seconds: float) -> Iterator[dict[str, Any]]:
    deadline = time.monotonic() + timeout_seconds
    while True:
        message = channel.basic_get(queue)
        if message is not None:
            message.ack()
            yield message.decode()
        elif time.monotonic() >= deadline:
            return
        else:
            time.sleep(_POLL_SECONDS)


def _answer(case: Case, reply: dict[str, Any]) -> Answer:
    if "response" not in reply:
        raise CommandFailed(f"The queue door refused a request: {reply['error']['message']}")
    text = reply["response"]["choices"][0]["message"]["content"] or ""
    return answered(case, text, reply["headers"])
