"""Somebody else's server, to which webhooks are sent."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

SAID = "what a receiver says"

_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Heard:
    """One request as it came; names of headers in lower case."""

    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """
    Takes whatever is sent.

    Attributes:
        host: `address:port`.
        status: With which it answers.
        seconds: After which it answers.
        heard: All requests, in order.
    """

    host: str = ""
    status: int = 200
    seconds: float = 0.0
    heard: list[Heard] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.host}/hook"

    def await_event(self, wanted: Callable[[dict[str, Any]], bool]) -> Heard:
        """
        The first request whose event is wanted.

        Raises:
            TimeoutError: None came.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            for each in list(self.heard):
                if wanted(json.loads(each.body)):
                    return each
            time.sleep(0.05)
        raise TimeoutError("the event did not come")


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver for the length of a block, on a loopback port."""
    receiver = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.heard.append(Heard(headers, body))
            time.sleep(receiver.seconds)
            self.send_response(receiver.status)
            self.end_headers()
            # The NUL is what Postgres would not store.
            self.wfile.write(f"{SAID}\0".encode())

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.host = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
