"""The simulated model server: its protocol, its script and what it remembers."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any, Self
from urllib.parse import quote

from shared.testing.upstream import protocol
from shared.testing.upstream.acts import Act, answer
from shared.testing.upstream.exchange import Departed, Exchange, Operation, Payload
from shared.testing.upstream.listener import Listener
from shared.testing.upstream.protocol import CONFLICT, MISSING, Resident, route


@dataclass(frozen=True, slots=True)
class Call:
    """
    One request.

    Attributes:
        at: Monotonic seconds of its arrival.
        model: Empty where none is named.
        body: What was sent.
    """

    at: float
    operation: Operation
    model: str
    body: dict[str, Any]

    @property
    def prompt(self) -> tuple[int, ...]:
        """Token ids of a completion; tests tell requests apart by them."""
        return tuple(self.body.get("prompt", ()))


class Upstream:
    """
    Speaks the protocol of `services.serving` and of its children on one loopback port, from a
    thread of its own. Everything may be called from any thread at any time.

    Attributes:
        text: From model and prompt to the answer.
        births: How often each (model, adapter) was brought up; a second time is a second effect.
        generated: How often an answer to (model, prompt) was made, whether or not it arrived.
        departures: Clients that left before they had their whole answer.
    """

    def __init__(self, *, port: int = 0) -> None:
        self.text: Callable[[str, tuple[int, ...]], str] = protocol.say
        self.births: Counter[tuple[str, str | None]] = Counter()
        self.generated: Counter[tuple[str, tuple[int, ...]]] = Counter()
        self.departures = 0
        self._port = port
        self._lock = threading.Lock()
        self._calls: list[Call] = []
        self._residents: dict[str, Resident] = {}
        self._once: dict[tuple[Operation, str | None], deque[Act]] = {}
        self._always: dict[tuple[Operation, str | None], Act] = {}
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
        """Refuse connections and forget who is resident, as a model server that was killed."""
        server, self._server = self._server, None
        if server is not None:
            server.end()
        with self._lock:
            self._residents.clear()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    # Script

    def once(self, *acts: Act, on: Operation = "complete", model: str | None = None) -> None:
        """The next requests are answered so, one act each; they come before `always`."""
        with self._lock:
            self._once.setdefault((on, model), deque()).extend(acts)

    def always(self, act: Act, *, on: Operation = "complete", model: str | None = None) -> None:
        """Every request is answered so, until `behave` or another act."""
        with self._lock:
            self._always[on, model] = act

    def behave(self) -> None:
        """Forget the script: answer well."""
        with self._lock:
            self._once.clear()
            self._always.clear()

    @contextlib.contextmanager
    def during(
        self, act: Act, *, on: Operation = "complete", model: str | None = None
    ) -> Iterator[None]:
        """Answer so for the time of a `with`."""
        self.always(act, on=on, model=model)
        try:
            yield
        finally:
            with self._lock:
                self._always.pop((on, model), None)

    # Memory

    def calls(self, on: Operation | None = None, model: str | None = None) -> list[Call]:
        """Requests so far, oldest first."""
        with self._lock:
            return [
                call
                for call in self._calls
                if on in {None, call.operation} and model in {None, call.model}
            ]

    @property
    def residents(self) -> dict[str, Resident]:
        with self._lock:
            return dict(self._residents)

    def _serve(self, door: BaseHTTPRequestHandler, method: str) -> None:
        length = int(door.headers.get("content-length") or 0)
        body: dict[str, Any] = json.loads(door.rfile.read(length) or b"{}")
        operation, model, birth = route(method, door.path, body)
        with self._lock:
            self._calls.append(Call(time.monotonic(), operation, model, body))
            act = self._choose(operation, model)
        server = self._server
        exchange = Exchange(
            operation=operation,
            model=model,
            body=body,
            perform=lambda: self._perform(operation, model, birth, body),
            handler=door,
            is_closing=lambda: self._server is not server,
        )
        try:
            act(exchange)
        except Departed:
            exchange.close()
            with self._lock:
                self.departures += 1

    def _choose(self, operation: Operation, model: str) -> Act:
        for key in ((operation, model), (operation, None)):
            if self._once.get(key):
                return self._once[key].popleft()
        return self._always.get((operation, model)) or self._always.get((operation, None), answer)

    def _perform(
        self, operation: Operation, model: str, birth: int, body: dict[str, Any]
    ) -> Payload:
        with self._lock:
            if operation in {"health", "complete"}:
                return self._ask_child(operation, model, birth, body)
            if operation == "load":
                return self._load(body)
            if operation == "unload":
                gone = self._residents.pop(model, None)
                return Payload.of({"model": model, "deleted": True}) if gone else MISSING
            if operation == "list":
                return Payload.of({"status": "ok", "models": list(self._residents)})
        return protocol.scores(body) if operation == "score" else protocol.vectors(body)

    def _ask_child(
        self, operation: Operation, model: str, birth: int, body: dict[str, Any]
    ) -> Payload:
        resident = self._residents.get(model)
        if resident is None or resident.birth != birth:
            return MISSING
        if operation == "health":
            return Payload.of({"status": "ok"})
        prompt = tuple(body["prompt"])
        self.generated[model, prompt] += 1
        return protocol.completion(body, self.text(model, prompt))

    def _load(self, body: dict[str, Any]) -> Payload:
        model, adapter = body["model"], body.get("adapter")
        resident = self._residents.get(model)
        if resident is None:
            self.births[model, adapter] += 1
            resident = Resident(model, body["base"], adapter, self.births.total())
            self._residents[model] = resident
        elif (resident.base, resident.adapter) != (body["base"], adapter):
            return CONFLICT
        url = f"{self.url}/child/{resident.birth}/{quote(model, safe='')}"
        return protocol.record(resident, url)
