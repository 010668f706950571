"""What the gateway measures, in Prometheus's form."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import ModuleType

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.spine.figures import Backlog, LeaseFigures, TableFigures

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
        self.keys_outdated = Gauge(
            "gateway_keys_outdated",
            "API keys not known to be stored under the pepper in use.",
            registry=self.registry,
        )
        self.projects_full = Gauge(
            "gateway_projects_full",
            "Projects refused for too much unfinished work.",
            registry=self.registry,
        )
        self.database_up = Gauge(
            "gateway_database_up",
            "1 while Postgres answers; else the figures of deliveries and of the spine are old.",
            registry=self.registry,
        )
        self.spine = SpineMetrics(self.registry)


class SpineMetrics:
    """What is known of queues, leases and tables; kept as it was while Postgres is away."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def per(label: str, name: str, meaning: str) -> Gauge:
            return Gauge(name, meaning, (label,), registry=registry)

        self._unfinished = per("queue", "delivery_unfinished", "Deliveries, due later or now.")
        self._due = per("queue", "delivery_due", "Deliveries that are due and not finished.")
        self._oldest = per("queue", "delivery_oldest_due_seconds", "How long the oldest is due.")
        self._retried = per(
            "queue", "delivery_oldest_retried_seconds", "Age of the oldest that failed so far."
        )
        self._dead = per("queue", "delivery_dead_letters", "Messages given up.")
        self._leases = per("kind", "spine_leases", "Long work that is not finished.")
        self._expired = per("kind", "spine_leases_expired", "Long work whose process is silent.")
        self._claims = per("kind", "spine_lease_claims", "Claims of the work claimed most often.")
        self._expiries = Counter(
            "spine_lease_expiries",
            "Work taken over from a process that had gone silent.",
            ("kind",),
            registry=registry,
        )
        self._counted: dict[str, int] = {}
        self._live_tuples = per("table", "spine_live_tuples", "Rows, an estimate.")
        self._dead_tuples = per("table", "spine_dead_tuples", "Rows to be vacuumed, an estimate.")

    def record_backlogs(self, backlogs: Iterable[Backlog]) -> None:
        """Set the gauges of all queues."""
        for backlog in backlogs:
            self._unfinished.labels(backlog.queue).set(backlog.unfinished)
            self._due.labels(backlog.queue).set(backlog.due)
            self._oldest.labels(backlog.queue).set(backlog.oldest_due_seconds)
            self._retried.labels(backlog.queue).set(backlog.oldest_retried_seconds)
            self._dead.labels(backlog.queue).set(backlog.dead)

    def record_leases(self, kinds: Iterable[LeaseFigures]) -> None:
        """Set the gauges of the kinds there are, and count on what was taken over since."""
        for gauge in (self._leases, self._expired, self._claims):
            gauge.clear()
        for kind in kinds:
            self._leases.labels(kind.kind).set(kind.open)
            self._expired.labels(kind.kind).set(kind.expired)
            self._claims.labels(kind.kind).set(kind.claims)
            self._expiries.labels(kind.kind).inc(kind.expiries - self._counted.get(kind.kind, 0))
            self._counted[kind.kind] = kind.expiries

    def record_tables(self, tables: Iterable[TableFigures]) -> None:
        """Set the gauges of all tables."""
        for table in tables:
            self._live_tuples.labels(table.table).set(table.live)
            self._dead_tuples.labels(table.table).set(table.dead)


class RoomCollector(Collector):
    """What the rooms of this process measure themselves, asked at every scrape."""

    def __init__(self, app: FastAPI, rooms: Iterable[ModuleType]) -> None:
        """
        Args:
            app: Handed to `measure(app)` of every room that has one.
            rooms: Their public faces.
        """
        self._app = app
        self._measures = [room.measure for room in rooms if hasattr(room, "measure")]

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering asks no room that is not open yet."""
        return ()

    def collect(self) -> Iterable[Metric]:
        for measure in self._measures:
            yield from measure(self._app)


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
