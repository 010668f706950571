"""A receiver of webhooks on this machine."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Told:
    """One request as it came."""

    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """
    Takes whatever is sent.

    Attributes:
        host: `address:port`.
    """

    host: str
    told: list[Told] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.host}/hook"

    def await_event(self, wanted: Callable[[dict[str, Any]], bool]) -> Told:
        """The first request whose event is wanted."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            for each in list(self.told):
                if wanted(json.loads(each.body)):
                    return each
            assert time.monotonic() < deadline, "the event did not come"
            time.sleep(0.05)


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver for the length of a block."""
    receiver = Receiver("")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.told.append(Told(headers, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.host = f"127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield receiver
        server.shutdown()
