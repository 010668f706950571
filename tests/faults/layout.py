"""Which processes a fault module needs, and the settings of the suite."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.local.processes import ProcessSpec

WORKER = Path(__file__).with_name("worker.py")
PLAIN_WORKER = Path(__file__).with_name("plain_worker.py")
DELIVERY = Path(__file__).with_name("delivery.py")
# A killed process is back within this, on two cores that do other work as well.
RESTART_SECONDS = 10.0

SEAL_MILLISECONDS = 200

# Production values scaled down, so that twenty recoveries fit into two minutes.
SCALED: dict[str, object] = {
    "lease_seconds": 3.0,
    "ring_again_seconds": 2.0,
    "task_hard_limit_seconds": 4,
    "task_soft_limit_seconds": 3,
    "visibility_timeout_seconds": 12,
    "idle_transaction_milliseconds": 4_000,
    "statement_timeout_milliseconds": 3_000,
    "lock_timeout_milliseconds": 1_000,
    "answer_grace_milliseconds": 1_000,
    "database_silence_seconds": 4,
    "database_connect_seconds": 2,
    "database_pool_seconds": 2.0,
    "worker_soft_shutdown_seconds": 1.0,
    "worker_children": 1,
    "bus_timeout_seconds": 2.0,
    "bus_connect_timeout_seconds": 1.0,
    "bus_health_seconds": 2,
}


@dataclass(frozen=True)
class Layout:
    """
    What a module needs. Modules with equal layouts may share a stack.

    Attributes:
        workers: Worker processes, named `worker-1` and so on; each has one child.
        deliveries: Delivery processes, named `delivery-1` and so on.
        holders: Processes with leases, named `holder-1` and so on.
        plain_workers: Workers of the control, named `plain-1` and so on; each has one child.
        has_gateway: Whether there is a `gateway`.
        has_gates: Whether Postgres and the bus are reached through TCP gates.
        has_tls: Whether TLS is spoken with Postgres, through its gate.
        settings: Further settings, by name without the prefix.
        wrapped: Command prefixes by process name, for example `env` with a variable.
        further: Processes of one module alone, for example a worker of one queue.
        bus_options: Further command line options of the bus, for example `--appendonly no`.
    """

    workers: int = 2
    deliveries: int = 1
    holders: int = 1
    plain_workers: int = 0
    has_gateway: bool = True
    has_gates: bool = False
    has_tls: bool = False
    settings: tuple[tuple[str, object], ...] = ()
    wrapped: tuple[tuple[str, tuple[str, ...]], ...] = ()
    further: tuple[ProcessSpec, ...] = ()
    bus_options: tuple[str, ...] = ()


def specs(layout: Layout) -> list[ProcessSpec]:
    """The supervised processes of a layout."""
    wrapped = dict(layout.wrapped)

    def process(name: str, *arguments: str) -> ProcessSpec:
        return ProcessSpec(
            name=name,
            command=(*wrapped.get(name, ()), sys.executable, *arguments),
            stop_seconds=15,
        )

    found = [process("gateway", "-m", "services.gateway")] if layout.has_gateway else []
    roles: Sequence[tuple[str, int, tuple[str, ...]]] = (
        ("worker", layout.workers, (str(WORKER),)),
        ("delivery", layout.deliveries, (str(DELIVERY),)),
        ("holder", layout.holders, ("-m", "tests.faults.holder")),
        ("plain", layout.plain_workers, (str(PLAIN_WORKER),)),
    )
    for role, count, command in roles:
        found += [process(f"{role}-{number}", *command) for number in range(1, count + 1)]
    return [*found, *layout.further]
