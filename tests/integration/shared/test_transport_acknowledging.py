"""What a worker holds and may hold when the bus goes away or fills up under its hands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kombu import Connection, Producer, Queue
from redis.exceptions import ConnectionError as BusAway

from infra.local.embedded import EmbeddedServer, private_valkey


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with private_valkey("bus") as server:
        yield server


@pytest.mark.parametrize("end", ["ack", "reject"])
def test_a_message_that_cannot_be_acknowledged_gives_its_place_back(server, end):
    """Guarantee: a bus that is away at the end of a task does not leave its worker deaf."""
    with Connection(server.url, transport="shared.transport:Transport") as connection:
        channel = connection.channel()
        channel.basic_qos(0, 1, False)
        Queue("q")(channel).declare()
        Producer(channel).publish({}, routing_key="q")
        message = channel.basic_get("q")
        assert not channel.qos.can_consume()
        server.kill()
        with pytest.raises(BusAway):
            getattr(message, end)()
        assert channel.qos.can_consume()
        server.restart()


def test_a_full_bus_hands_out_what_it_has_no_room_to_note(server):
    """Guarantee: a worker goes on while the bus is full, and what it did is not done again."""
    with Connection(server.url, transport="shared.transport:Transport") as connection:
        channel = connection.channel()
        channel.basic_qos(0, 1, False)
        Queue("q")(channel).declare()
        Producer(channel).publish({}, routing_key="q")
        channel.client.config_set("maxmemory", 1)
        message = channel.basic_get("q")
        assert not channel.qos.can_consume()
        message.ack()
        assert channel.qos.can_consume()
        assert channel.client.llen("q") == channel.client.zcard("unacked_index") == 0
