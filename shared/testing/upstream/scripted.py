"""A server on one loopback port that answers as its script says; what it speaks is for others."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Self

from shared.testing.upstream.acts import Act, answer
from shared.testing.upstream.exchange import Departed, Exchange
from shared.testing.upstream.listener import Listener


class Scripted:
    """
    Answers from a thread of its own. Everything may be called from any thread at any time.

    Attributes:
        departures: Clients that left before they had their whole answer.
    """

    # What is meant where a line of the script names no operation.
    usual_operation = ""

    def __init__(self, *, port: int = 0) -> None:
        self.departures = 0
        self._port = port
        self._lock = threading.Lock()
        self._once: dict[tuple[str, str | None], deque[Act]] = {}
        self._always: dict[tuple[str, str | None], Act] = {}
        self._server: Listener | None = None

    # Life

    def start(self) -> None:
        """Listen; the port stays the same after `stop`."""
        self._server = Listener(self._port, self._serve)
        self._port = self._server.server_port
        threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="upstream", daemon=True
        ).start()

    def stop(self) -> None:
        """Refuse connections, as a server that was killed."""
        server, self._server = self._server, None
        if server is not None:
            server.end()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    # Script

    def once(self, *acts: Act, on: str | None = None, model: str | None = None) -> None:
        """The next requests are answered so, one act each; they come before `always`."""
        with self._lock:
            self._once.setdefault((on or self.usual_operation, model), deque()).extend(acts)

    def always(self, act: Act, *, on: str | None = None, model: str | None = None) -> None:
        """Every request is answered so, until `behave` or another act."""
        with self._lock:
            self._always[on or self.usual_operation, model] = act

    def behave(self) -> None:
        """Forget the script: answer well."""
        with self._lock:
            self._once.clear()
            self._always.clear()

    @contextlib.contextmanager
    def during(
        self, act: Act, *, on: str | None = None, model: str | None = None
    ) -> Iterator[None]:
        """Answer so for the time of a `with`."""
        self.always(act, on=on, model=model)
        try:
            yield
        finally:
            with self._lock:
                self._always.pop((on or self.usual_operation, model), None)

    def _exchange(self, door: BaseHTTPRequestHandler, method: str) -> tuple[Exchange, Act]:
        """What is asked, written down, and how it is to be answered."""
        raise NotImplementedError

    def _closing(self) -> Callable[[], bool]:
        """Tells whether the server that listens now is ending; a later one is another."""
        server = self._server
        return lambda: self._server is not server

    def _serve(self, door: BaseHTTPRequestHandler, method: str) -> None:
        exchange, act = self._exchange(door, method)
        try:
            act(exchange)
        except Departed:
            exchange.close()
            with self._lock:
                self.departures += 1

    def _choose(self, operation: str, model: str) -> Act:
        for key in ((operation, model), (operation, None)):
            if self._once.get(key):
                return self._once[key].popleft()
        return self._always.get((operation, model)) or self._always.get((operation, None), answer)
