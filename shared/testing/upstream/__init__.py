"""A model server that does what a test says, on real sockets."""

from shared.testing.upstream.acts import (
    Act,
    answer,
    drip,
    half_a_body,
    hang,
    lose_answer,
    not_found,
    refuse,
    say_state,
    send_raw,
    slow,
    stream,
)
from shared.testing.upstream.server import Upstream

__all__ = [
    "Act",
    "Upstream",
    "answer",
    "drip",
    "half_a_body",
    "hang",
    "lose_answer",
    "not_found",
    "refuse",
    "say_state",
    "send_raw",
    "slow",
    "stream",
]
