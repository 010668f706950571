"""What inference measures of itself, in Prometheus's form."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from services.inference.shipper import Shipper


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
