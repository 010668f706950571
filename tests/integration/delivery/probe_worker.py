"""The real worker with one task more, whose effect can be counted and takes a known time."""

from __future__ import annotations

import time

from shared.contracts.workloads import WorkloadCreated
from shared.db import UnitOfWork
from shared.task import task
from shared.worker import main


@task("drift.probe", WorkloadCreated)
def probe(uow: UnitOfWork, message: WorkloadCreated) -> None:
    """Leave an entry, then hold the transaction open for `name` seconds."""
    uow.audit("probe.done", message.workload_id)
    uow.audit("probe.began", message.workload_id)
    time.sleep(float(message.name))


if __name__ == "__main__":
    main()
