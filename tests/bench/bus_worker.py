"""Workers of the bus benchmark: `python -m tests.bench.bus_worker ARM PROCESSES`.

Each task appends one line to the file named by BENCH_EFFECTS: its number, and when it ran. The
clock is CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import os
import sys
import time
from functools import cache

from celery import Celery, shared_task
from kombu import Exchange, Queue

from shared.broker import make_celery
from shared.contracts.envelope import Message
from shared.db import UnitOfWork
from shared.process import process_settings
from shared.settings import CoreSettings
from shared.task import task

QUEUE = "drift"
SPINE_TASK = "drift.bench"
PLAIN_TASK = "bench.effect"


@cache
def effects() -> int:
    """The file of the effects; one write of a line is not mixed with another's."""
    return os.open(os.environ["BENCH_EFFECTS"], os.O_WRONLY | os.O_APPEND)


def record(number: str) -> None:
    os.write(effects(), f"{number} {time.monotonic():.6f}\n".encode())


class BenchCommand(Message):
    """Asks for the effect."""

    type = "bench.command.v1"
    number: str

    @property
    def subject(self) -> str:
        return self.number


@task(SPINE_TASK, BenchCommand)
def effect(_uow: UnitOfWork, message: BenchCommand) -> None:
    """The delivery is taken in this transaction; nothing else is written."""
    record(message.number)


@shared_task(name=PLAIN_TASK)  # type: ignore[untyped-decorator]  # celery ships no types
def plain_effect(number: str) -> None:
    record(number)


def plain_app(kind: str, settings: CoreSettings) -> Celery:
    """Celery without the spine: with our broker settings, or with its own."""
    if kind == "plain":
        app = make_celery(settings)
    else:
        app = Celery("bench", broker=settings.bus_url)
        app.conf.task_queues = [Queue(QUEUE, Exchange(QUEUE), routing_key=QUEUE)]
        app.conf.broker_transport_options = {"global_keyprefix": settings.broker_prefix}
    # A spawned child learns its tasks by importing them.
    app.conf.include = ["tests.bench.bus_worker"]
    return app


def main() -> None:
    kind, processes = sys.argv[1:]
    if kind == "spine":
        from shared.worker import celery as app
    else:
        app = plain_app(kind, process_settings())
    app.worker_main(
        [
            "worker",
            f"--concurrency={processes}",
            f"--queues={QUEUE}",
            "--without-gossip",
            "--without-mingle",
            "--loglevel=warning",
        ]
    )


if __name__ == "__main__":
    main()
