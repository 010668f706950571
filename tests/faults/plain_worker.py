"""The control's worker, plain Celery with our settings: `python tests/faults/plain_worker.py`.

What careful people run without the spine: the message is the work, acknowledged after its effect.
"""

from __future__ import annotations

import os
import time

from sqlalchemy import text

from shared.broker import make_celery
from shared.context import Context
from shared.ids import Project
from shared.process import process_settings, process_units
from tests.faults.plain import QUEUE, TASK

# As long as a probe of our own load holds its transaction on average.
HOLD_SECONDS = 0.025

celery = make_celery(process_settings())
_EFFECT = text("INSERT INTO faults.effects (number, kind, by) VALUES (:number, 'plain', :by)")


@celery.task(name=TASK)
def plain(number: str) -> None:
    with process_units().open(Context.root(Project(""), "plain")) as uow:
        time.sleep(HOLD_SECONDS / 2)
        uow.session.execute(_EFFECT, {"number": number, "by": str(os.getpid())})
        time.sleep(HOLD_SECONDS / 2)


if __name__ == "__main__":
    celery.worker_main(
        [
            "worker",
            "--pool=prefork",
            f"--concurrency={process_settings().worker_children}",
            f"--queues={QUEUE}",
            "--without-gossip",
            "--without-mingle",
            "--loglevel=warning",
        ]
    )
