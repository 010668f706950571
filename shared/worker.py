"""The worker process: Celery with the tasks of every room that has some.

`python -m shared.worker [--queues a,b]`; without queues it serves all of them.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys

from celery.signals import task_unknown
from kombu import Message

from shared.answering import answer_unknown
from shared.broker import FURTHER, ROOM_QUEUES, make_celery
from shared.lifeline import die_with_parent
from shared.logging import configure_logging
from shared.process import process_settings

# How a spawned child learns whose it is: it imports this module before it is told anything.
_MAIN_PID = "WORKER_MAIN_PID"

# Celery ties its children too, but only when they have imported every room.
if _MAIN_PID in os.environ:
    die_with_parent(int(os.environ[_MAIN_PID]))

celery = make_celery(process_settings())
celery.set_default()


def _spend_attempt(message: Message, **_: object) -> None:
    """Celery acknowledges what it does not know; the row decides whether it is rung again."""
    answer_unknown([message.decode()[0][0], *message.headers.get(FURTHER, [])])


task_unknown.connect(_spend_attempt)


def import_tasks() -> list[str]:
    """Import `services.<room>.tasks` of every room; returns the module names."""
    import services  # noqa: PLC0415 - rooms import this package, so they are found at run time

    names = [
        f"services.{room.name}.tasks"
        for room in pkgutil.iter_modules(services.__path__)
        if importlib.util.find_spec(f"services.{room.name}.tasks")
    ]
    for name in names:
        importlib.import_module(name)
    return names


import_tasks()


def main() -> None:
    """Run until SIGTERM; a warm shutdown finishes running tasks."""
    os.environ[_MAIN_PID] = str(os.getpid())
    settings = process_settings()
    queues = sys.argv[sys.argv.index("--queues") + 1] if "--queues" in sys.argv else None
    celery.worker_main(
        [
            "worker",
            "--pool=prefork",
            f"--concurrency={settings.worker_children}",
            f"--queues={queues or ','.join(ROOM_QUEUES)}",
            "--without-gossip",
            "--without-mingle",
            # Every task logs its own line; Celery's would be two more.
            "--loglevel=warning",
        ]
    )


# Pool children are spawned, so they import this module and need logging of their own.
configure_logging("worker", process_settings().log_level)

if __name__ == "__main__":
    main()
