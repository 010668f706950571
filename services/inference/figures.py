"""What inference measures of itself, in Prometheus's form."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from services.inference.breakers import Breakers
from services.inference.shipper import Shipper


def measure_models(breakers: Breakers) -> Iterator[Metric]:
    """Every model this process has asked."""
    is_open = GaugeMetricFamily(
        "inference_breaker_open", "1 while the model is left alone.", labels=["model"]
    )
    calls = CounterMetricFamily(
        "inference_calls", "Calls to the model, repetitions included.", labels=["model"]
    )
    repetitions = CounterMetricFamily(
        "inference_repetitions", "Calls that repeated a failed one.", labels=["model"]
    )
    for model, standing in breakers.standings():
        is_open.add_metric([model], standing.is_open)
        calls.add_metric([model], standing.calls)
        repetitions.add_metric([model], standing.repetitions)
    yield from (is_open, calls, repetitions)


def measure(shipper: Shipper) -> Iterator[Metric]:
    """The records on their way to Postgres: of this process, and of all of this host."""
    folder, poisoned = shipper.spool.folder_bytes()
    gauges = {
        "spool_waiting_bytes": ("Records of this process not in Postgres.", shipper.waiting_bytes),
        "spool_waiting_seconds": ("How long they have waited.", shipper.waiting_seconds),
        "spool_folder_bytes": ("Files of all processes of this host.", folder),
        "spool_poison_bytes": ("Records that Postgres refuses.", poisoned),
    }
    for name, (meaning, value) in gauges.items():
        yield GaugeMetricFamily(f"inference_{name}", meaning, value=value)
    yield CounterMetricFamily(
        "inference_records_dropped",
        "Records for which there was no room.",
        value=shipper.spool.dropped,
    )
