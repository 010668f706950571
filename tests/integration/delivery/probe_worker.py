"""The real worker with tasks more, whose effect can be counted."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from shared.contracts.workloads import WorkloadCreated
from shared.db import UnitOfWork
from shared.errors import Invalid
from shared.task import Work, phased_task, task
from shared.worker import main


@task("drift.probe", WorkloadCreated)
def probe(uow: UnitOfWork, message: WorkloadCreated) -> None:
    """Leave an entry, then hold the transaction open for `name` seconds."""
    uow.audit("probe.done", message.workload_id)
    uow.audit("probe.began", message.workload_id)
    time.sleep(float(message.name))


@phased_task("drift.phased_probe", WorkloadCreated)
def phased(work: Work, message: WorkloadCreated) -> None:
    """Call out for `name` seconds, then leave an entry."""
    time.sleep(float(message.name))
    with work.finish() as uow:
        uow.audit("probe.done", message.workload_id)


@task("drift.swallow_probe", WorkloadCreated)
def swallow(uow: UnitOfWork, message: WorkloadCreated) -> None:
    """Leave an entry, then fail as the subject says, until the file `base_model` exists."""
    uow.audit("probe.done", message.workload_id)
    if Path(message.base_model).exists():
        return
    match message.workload_id:
        case "refuses":
            raise Invalid("It cannot be done.", code="probe_refused")
        case "raises":
            raise ValueError("It cannot be done.")
        case "kills":
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
