"""One request at the simulated model server, and the ways in which it can be answered."""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

_LINGER_NOT = struct.pack("ii", 1, 0)
_LOOK_SECONDS = 0.02


class Departed(Exception):
    """The client closed its side before it had the whole answer."""


@dataclass(frozen=True, slots=True)
class Payload:
    """
    A good answer.

    Attributes:
        status: Of HTTP.
        parts: The body; more than one part is a stream of server-sent events.
    """

    status: int
    parts: tuple[bytes, ...]
    is_stream: bool = False

    @classmethod
    def of(cls, body: object, status: int = 200) -> Payload:
        return cls(status, (json.dumps(body).encode(),))

    @classmethod
    def events(cls, bodies: Sequence[object]) -> Payload:
        parts = tuple(b"data: " + json.dumps(body).encode() + b"\n\n" for body in bodies)
        return cls(200, parts, is_stream=True)


@dataclass
class Exchange:
    """
    What an act works with.

    Attributes:
        operation: What is asked.
        model: Of which model; empty where none is named.
        body: What was sent.
        perform: Does what is asked, once, and says what a good answer is.
        is_closing: Whether the simulator is ending.
    """

    operation: str
    model: str
    body: dict[str, Any]
    perform: Callable[[], Payload]
    handler: BaseHTTPRequestHandler
    is_closing: Callable[[], bool]

    def send(self, payload: Payload, **headers: str) -> None:
        """A whole answer as HTTP has it; the connection may be used again."""
        self.begin(payload, **headers)
        for part in payload.parts:
            self.write(_chunk(part) if payload.is_stream else part)
        if payload.is_stream:
            self.write(_chunk(b""))

    def begin(self, payload: Payload, **headers: str) -> None:
        """Status and headers of an answer."""
        self.handler.send_response(payload.status)
        if payload.is_stream:
            self.handler.send_header("content-type", "text/event-stream")
            self.handler.send_header("transfer-encoding", "chunked")
        else:
            self.handler.send_header("content-type", "application/json")
            self.handler.send_header("content-length", str(sum(map(len, payload.parts))))
        for name, value in headers.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.end_headers()

    def write(self, data: bytes) -> None:
        """Bytes as they are."""
        try:
            self.handler.wfile.write(data)
            self.handler.wfile.flush()
        except OSError as error:
            raise Departed from error

    def frames(self, payload: Payload) -> bytes:
        """The body as it goes over the wire."""
        if not payload.is_stream:
            return b"".join(payload.parts)
        return b"".join(map(_chunk, payload.parts)) + _chunk(b"")

    def hold(self, seconds: float | None = None) -> None:
        """Do nothing for so long, or until the client leaves, which raises `Departed`."""
        until = None if seconds is None else time.monotonic() + seconds
        while not self.is_closing() and (until is None or time.monotonic() < until):
            if self._has_left():
                raise Departed
        if until is None:
            raise Departed

    def close(self) -> None:
        """End the connection as HTTP ends it, in the middle of whatever was sent."""
        self.handler.close_connection = True

    def reset(self) -> None:
        """End the connection with RST, so that the client cannot take it for an end."""
        connection = self.handler.connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        # Closing the socket itself would say goodbye first.
        os.close(connection.detach())
        self.close()

    def _has_left(self) -> bool:
        connection = self.handler.connection
        readable, _, _ = select.select([connection], [], [], _LOOK_SECONDS)
        try:
            return bool(readable) and not connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"
