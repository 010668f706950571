"""What the simulated model server can do with a request.

An act is a function of the exchange. Those with a parameter are made by a function of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from shared.testing.upstream.exchange import Exchange, Payload

Act = Callable[[Exchange], None]


def answer(exchange: Exchange) -> None:
    """Well."""
    exchange.send(exchange.perform())


def slow(seconds: float) -> Act:
    """Well, after a while."""

    def act(exchange: Exchange) -> None:
        exchange.hold(seconds)
        answer(exchange)

    return act


def refuse(
    status: int, *, retry_after: float | str | None = None, kind: str = "server_error"
) -> Act:
    """With an error, and nothing is done. *retry_after* is sent as it is."""
    error = {"message": "no", "type": kind, "param": None, "code": kind}

    def act(exchange: Exchange) -> None:
        headers = {} if retry_after is None else {"retry_after": str(retry_after)}
        exchange.send(Payload.of({"error": error}, status), **headers)

    return act


def not_found(exchange: Exchange) -> None:
    """404, as a port that has passed to another model."""
    refuse(404, kind="not_found_error")(exchange)


def hang(exchange: Exchange) -> None:
    """Not at all, until the client leaves."""
    exchange.hold()


def half_a_body(exchange: Exchange) -> None:
    """The headers and half of the body, then silence."""
    payload = exchange.perform()
    exchange.begin(payload)
    frames = exchange.frames(payload)
    exchange.write(frames[: len(frames) // 2])
    exchange.hold()


def drip(bytes_per_second: float = 1.0) -> Act:
    """The headers, then byte after byte."""

    def act(exchange: Exchange) -> None:
        payload = exchange.perform()
        exchange.begin(payload)
        for byte in exchange.frames(payload):
            exchange.write(bytes([byte]))
            exchange.hold(1.0 / bytes_per_second)

    return act


def lose_answer(exchange: Exchange) -> None:
    """It is done, and the connection is reset instead of an answer."""
    exchange.perform()
    exchange.reset()


def say_state(word: str) -> Act:
    """A load: done, and answered with this word for the model's state."""

    def act(exchange: Exchange) -> None:
        payload = exchange.perform()
        body = json.loads(payload.parts[0])
        exchange.send(Payload.of(body | {"state": word}, payload.status))

    return act


def send_raw(body: bytes, *, status: int = 200) -> Act:
    """It is done, and this is sent as the body."""

    def act(exchange: Exchange) -> None:
        payload = exchange.perform()
        exchange.send(replace(payload, status=status, parts=(body,)))

    return act


def stream(edit: Callable[[Sequence[bytes]], Sequence[bytes]], *, is_cut: bool = False) -> Act:
    """
    A stream with its events edited.

    Args:
        edit: From the events of a good answer to those that are sent.
        is_cut: Whether the connection ends without the end of the stream.
    """

    def act(exchange: Exchange) -> None:
        payload = exchange.perform()
        edited = replace(payload, parts=tuple(edit(payload.parts)))
        if not is_cut:
            exchange.send(edited)
            return
        exchange.begin(edited)
        frames = exchange.frames(edited)
        exchange.write(frames[: frames.rindex(b"0\r\n\r\n")])
        exchange.close()

    return act
