"""`python -m services.finetuning.trainer`: one blocking loop, one for each device."""

from __future__ import annotations

import os
import signal
import socket
import threading
from types import FrameType

from services.finetuning.service.ending import LEASE_KIND
from services.finetuning.settings import finetuning_settings
from services.finetuning.trainer.run import Workplace, run_job
from shared.context import Context
from shared.errors import PerpetuneError
from shared.ids import Project
from shared.logging import configure_logging, get_logger
from shared.process import process_blobs, process_settings, process_units, spine_units
from shared.spine import leases
from shared.spine.leases import Lease

log = get_logger(__name__)


def main() -> None:
    """Claim and train until SIGTERM or SIGINT; a job in progress is saved and given back."""
    core = process_settings()
    configure_logging("trainer", core.log_level)
    place = Workplace(
        units=process_units(),
        spine=spine_units(),
        blobs=process_blobs(),
        settings=finetuning_settings(),
        home=core.home / "training",
        lease_seconds=core.lease_seconds,
        stopping=threading.Event(),
    )

    def stop(_number: int, _frame: FrameType | None) -> None:
        place.stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while not place.stopping.is_set():
        if not work_once(place):
            place.stopping.wait(place.settings.poll_seconds)


def work_once(place: Workplace) -> bool:
    """Whether a job was found and brought to its end."""
    try:
        lease = _claim(place)
        return lease is not None and run_job(place, lease)
    except PerpetuneError as error:
        # Nothing is lost: the lease runs out and the job is claimed again.
        log.warning("trainer_failed", code=error.code, reason=error.message)
        return False


def _claim(place: Workplace) -> Lease | None:
    owner = f"trainer:{socket.gethostname()}:{os.getpid()}"
    with place.spine.open(Context.root(Project(""), "process:trainer")) as uow:
        return leases.claim(uow.session, LEASE_KIND, owner, place.settings.first_step_seconds)


if __name__ == "__main__":
    main()
