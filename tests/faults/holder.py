"""Long work under leases, in steps: `python -m tests.faults.holder` until SIGTERM.

Does what the trainer does with a lease, in a tenth of a second a step: claim, guarded writes,
renewal by progress, a guarded end. A refused write is noted.
"""

from __future__ import annotations

import os
import signal
import threading
import time

from sqlalchemy import text

from shared.context import Context
from shared.errors import LeaseLost, Unavailable
from shared.ids import Project
from shared.process import process_settings, process_units, spine_units
from shared.spine import leases
from shared.spine.leases import Lease
from tests.faults.probes import record_effect, stage

BETWEEN_STEPS = "between-steps"
IN_STEP = "in-step"
KIND = "probe.job"
STEPS = 5
STEP_SECONDS = 0.1
WRITE_SECONDS = 0.02
_NAME = f"holder-{os.getpid()}"


def main() -> None:
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    while not stopping.is_set():
        try:
            lease = claim()
            if lease is None:
                stopping.wait(STEP_SECONDS)
            else:
                carry_out(lease, stopping)
        except Unavailable:
            stopping.wait(0.3)


def claim() -> Lease | None:
    seconds = process_settings().lease_seconds
    with spine_units().open(Context.root(Project(""), _NAME)) as uow:
        return leases.claim(uow.session, KIND, _NAME, seconds)


def carry_out(lease: Lease, stopping: threading.Event) -> None:
    context = Context.root(lease.project, _NAME)
    try:
        for step in range(steps_done(context, lease), STEPS):
            with stage(BETWEEN_STEPS):
                if stopping.wait(STEP_SECONDS):
                    return
            take_step(context, lease, step)
        with process_units().open(context) as uow:
            leases.finish(uow, lease)
            record_effect(uow, lease.subject, "job")
    except LeaseLost:
        note_refusal(context, lease)


def steps_done(context: Context, lease: Lease) -> int:
    with process_units().open(context) as uow:
        leases.guard(uow, lease)
        return uow.session.execute(
            text("SELECT count(DISTINCT step) FROM faults.steps WHERE number = :number"),
            {"number": lease.subject},
        ).scalar_one()


def take_step(context: Context, lease: Lease, step: int) -> None:
    with process_units().open(context) as uow:
        leases.guard(uow, lease)
        with stage(IN_STEP):
            time.sleep(WRITE_SECONDS)
        uow.session.execute(
            text("INSERT INTO faults.steps (number, step, fence) VALUES (:number, :step, :fence)"),
            {"number": lease.subject, "step": step, "fence": lease.fence},
        )
        leases.renew(uow.session, lease, process_settings().lease_seconds)


def note_refusal(context: Context, lease: Lease) -> None:
    with process_units().open(context) as uow:
        uow.session.execute(
            text("INSERT INTO faults.refusals (number, fence) VALUES (:number, :fence)"),
            {"number": lease.subject, "fence": lease.fence},
        )


if __name__ == "__main__":
    main()
