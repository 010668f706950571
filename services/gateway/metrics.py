"""What the gateway measures, in Prometheus's form."""

from __future__ import annotations

import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.repository import Backlog

_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
# From what a hit in memory takes to what a long answer takes.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The instruments of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self.requests = Counter(
            "gateway_requests", "Requests answered.", labels, registry=self.registry
        )
        self.seconds = Histogram(
            "gateway_request_seconds",
            "Time from the first byte asked to the last byte answered.",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.snapshot_age = Gauge(
            "gateway_snapshot_age_seconds",
            "Age of the keys in memory.",
            registry=self.registry,
        )
        self._due = self._per_queue("delivery_due", "Deliveries that are due and not finished.")
        self._oldest = self._per_queue("delivery_oldest_due_seconds", "Age of the oldest due one.")
        self._dead = self._per_queue("delivery_dead_letters", "Deliveries given up.")

    def record_backlogs(self, backlogs: Iterable[Backlog]) -> None:
        """Set the gauges of all queues."""
        for backlog in backlogs:
            self._due.labels(backlog.queue).set(backlog.due)
            self._oldest.labels(backlog.queue).set(backlog.oldest_seconds)
            self._dead.labels(backlog.queue).set(backlog.dead)

    def _per_queue(self, name: str, meaning: str) -> Gauge:
        return Gauge(name, meaning, ("queue",), registry=self.registry)


class Measured:
    """ASGI middleware that counts and times requests by route template."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = "500"

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        started = time.perf_counter()
        try:
            await self._app(scope, receive, observed)
        finally:
            # Only what we know becomes a label: callers must not be able to invent series.
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = getattr(scope.get("route"), "path", "unmatched")
            self._metrics.requests.labels(method, route, status).inc()
            self._metrics.seconds.labels(method, route).observe(time.perf_counter() - started)
