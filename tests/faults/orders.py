"""A shop outside that takes each order once, however often it is asked: what phased work calls."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from shared.errors import Unavailable


class Shop:
    """
    Attributes:
        url: Where it listens.
        calls: How often each order was asked for.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        shop = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                with shop._lock:
                    shop.calls[self.path.removeprefix("/")] += 1
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        return Handler

    @contextmanager
    def open(self) -> Iterator[Shop]:
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


def place_order(url: str, number: str) -> None:
    """
    Ask for the order; its number is its idempotency key.

    Raises:
        Unavailable: No answer.
    """
    request = urllib.request.Request(f"{url}/{number}", method="PUT")
    try:
        urllib.request.urlopen(request, timeout=2).close()
    except OSError as error:
        raise Unavailable("The shop does not answer.", code="shop_unavailable") from error
