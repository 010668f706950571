"""The simulated model server: its protocol, its script and what it remembers."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import quote

from shared.testing.upstream import protocol
from shared.testing.upstream.acts import Act
from shared.testing.upstream.exchange import Exchange, Payload
from shared.testing.upstream.protocol import CONFLICT, MISSING, Operation, Resident, route
from shared.testing.upstream.scripted import Scripted


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


class Upstream(Scripted):
    """
    Speaks the protocol of `services.serving` and of its children.

    Attributes:
        text: From model and prompt to the answer.
        births: How often each (model, adapter) was brought up; a second time is a second effect.
        generated: How often an answer to (model, prompt) was made, whether or not it arrived.
    """

    usual_operation = "complete"

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port=port)
        self.text: Callable[[str, tuple[int, ...]], str] = protocol.say
        self.births: Counter[tuple[str, str | None]] = Counter()
        self.generated: Counter[tuple[str, tuple[int, ...]]] = Counter()
        self._calls: list[Call] = []
        self._residents: dict[str, Resident] = {}

    def stop(self) -> None:
        """Refuse connections and forget who is resident, as a model server that was killed."""
        super().stop()
        with self._lock:
            self._residents.clear()

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

    def _exchange(self, door: BaseHTTPRequestHandler, method: str) -> tuple[Exchange, Act]:
        length = int(door.headers.get("content-length") or 0)
        body: dict[str, Any] = json.loads(door.rfile.read(length) or b"{}")
        operation, model, birth = route(method, door.path, body)
        with self._lock:
            self._calls.append(Call(time.monotonic(), operation, model, body))
            act = self._choose(operation, model)
        exchange = Exchange(
            operation=operation,
            model=model,
            body=body,
            perform=lambda: self._perform(operation, model, birth, body),
            handler=door,
            is_closing=self._closing(),
        )
        return exchange, act

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
