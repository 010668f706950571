"""Messages that begin and fold monitors."""

from __future__ import annotations

from services.drift import service
from shared.contracts.drift import FoldMonitor
from shared.contracts.releases import ReleasePromoted
from shared.db import UnitOfWork
from shared.task import task


@task("drift.pin_baseline", ReleasePromoted)
def pin_baseline(uow: UnitOfWork, message: ReleasePromoted) -> None:
    """Idempotent: a live release is watched once; in any order, for the routes say who is live."""
    service.pin_baseline(uow, message)


@task("drift.fold_monitor", FoldMonitor)
def fold_monitor(uow: UnitOfWork, message: FoldMonitor) -> None:
    """Idempotent by the cursor, which moves in the same transaction."""
    service.fold_monitor(uow, message.monitor_id)
