"""The socket of the simulated model server, a thread per connection."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from weakref import WeakSet

from shared.logging import get_logger

_log = get_logger(__name__)


class _Door(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Listener

    def do_GET(self) -> None:
        self.server.serve(self, "GET")

    def do_POST(self) -> None:
        self.server.serve(self, "POST")

    def do_DELETE(self) -> None:
        self.server.serve(self, "DELETE")

    def log_message(self, *_: object) -> None:
        """Tests read no access log."""


class Listener(ThreadingHTTPServer):
    """Hands every request to *serve*, with its method."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, port: int, serve: Callable[[BaseHTTPRequestHandler, str], None]) -> None:
        self.serve = serve
        self._open: WeakSet[socket.socket] = WeakSet()
        super().__init__(("127.0.0.1", port), _Door)

    def get_request(self) -> tuple[socket.socket, str]:
        """A new connection; remembered, for it ends with the listener."""
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def handle_error(self, *_: object) -> None:
        """A client that goes away in the middle is what these tests are about."""
        if not isinstance(sys.exception(), OSError):
            _log.exception("upstream_crashed")

    def end(self) -> None:
        """Stop listening, and hang up on everybody."""
        self.shutdown()
        self.server_close()
        for connection in tuple(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
