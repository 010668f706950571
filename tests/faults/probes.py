"""Commands whose effects can be counted, and the tasks that answer them."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from sqlalchemy import text

from shared.contracts.catalogue import BY_TYPE, CONSUMERS
from shared.contracts.envelope import Message
from shared.db import UnitOfWork
from shared.task import Work, phased_task, task
from tests.faults.orders import place_order

_EFFECT = text("""
    INSERT INTO faults.effects (number, kind, project, by)
    VALUES (:number, :kind, current_setting('app.project', true), :by)
""")
_RESERVATION = text("""
    INSERT INTO faults.reservations (number) VALUES (:number) ON CONFLICT DO NOTHING
""")
_ANTIDOTE = text("SELECT EXISTS (SELECT FROM faults.antidotes WHERE number = :number)")

# What a process is in the middle of, for whoever injects a fault; at most 15 bytes.
BEFORE_EFFECT = "probe-before"
AFTER_EFFECT = "probe-after"
RESERVING = "reserving"
CALLING = "calling"
CALLED = "called"
RECORDING = "recording"
PHASES = (BEFORE_EFFECT, AFTER_EFFECT, RESERVING, CALLING, CALLED, RECORDING)

_SPARE_BYTES = 32 * 1024 * 1024


class Probe(Message):
    """Leave one effect.

    Attributes:
        number: Of the command.
        hold_seconds: How long its transaction stays open around the effect.
        order: Name of a lane; commands of one lane take effect in order of emission.
    """

    type: ClassVar[str] = "probe.asked.v1"
    number: str
    hold_seconds: float = 0.0
    order: str | None = None

    @property
    def subject(self) -> str:
        return self.number

    @property
    def lane(self) -> str | None:
        return self.order


class PhasedProbe(Message):
    """Leave one effect and place one order outside, in phases: reserve, call, record."""

    type: ClassVar[str] = "phased_probe.asked.v1"
    number: str
    hold_seconds: float = 0.0

    @property
    def subject(self) -> str:
        return self.number


class Beat(Message):
    """Scheduled: leave one effect each period.

    Attributes:
        name: Of the schedule.
    """

    type: ClassVar[str] = "beat.asked.v1"
    name: str

    @property
    def subject(self) -> str:
        return self.name


class PoisonousProbe(Message):
    """Do harm at every attempt, until there is an antidote; then leave one effect.

    Attributes:
        harm: `memory` is refused by the kernel, `kill` is what its out-of-memory killer does.
    """

    type: ClassVar[str] = "poisonous_probe.asked.v1"
    number: str
    harm: Literal["memory", "kill"]

    @property
    def subject(self) -> str:
        return self.number


CONSUMERS[Beat] = ("releases.beat",)
CONSUMERS[Probe] = ("drift.probe",)
CONSUMERS[PhasedProbe] = ("feedback.phased_probe",)
CONSUMERS[PoisonousProbe] = ("drift.poisonous_probe",)


@task("drift.probe", Probe)
def probe(uow: UnitOfWork, message: Probe) -> None:
    with stage(BEFORE_EFFECT):
        time.sleep(message.hold_seconds / 2)
    record_effect(uow, message.number, "probe")
    with stage(AFTER_EFFECT):
        time.sleep(message.hold_seconds / 2)


@phased_task("feedback.phased_probe", PhasedProbe)
def phased_probe(work: Work, message: PhasedProbe) -> None:
    with work.open() as uow, stage(RESERVING):
        uow.session.execute(_RESERVATION, {"number": message.number})
        time.sleep(message.hold_seconds / 4)
    with stage(CALLING):
        time.sleep(message.hold_seconds / 4)
        place_order(os.environ["FAULTS_ORDERS_URL"], message.number)
    with stage(CALLED):
        time.sleep(message.hold_seconds / 4)
    with work.finish() as uow, stage(RECORDING):
        record_effect(uow, message.number, "phased")
        time.sleep(message.hold_seconds / 4)


@task("drift.poisonous_probe", PoisonousProbe)
def poisonous_probe(uow: UnitOfWork, message: PoisonousProbe) -> None:
    # Its order counts the attempts, of which a killed process can leave no row.
    place_order(os.environ["FAULTS_ORDERS_URL"], message.number)
    if not uow.session.execute(_ANTIDOTE, {"number": message.number}).scalar_one():
        do_harm(message.harm)
    record_effect(uow, message.number, "poisonous")


def do_harm(harm: Literal["memory", "kill"]) -> None:
    if harm == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    before, most = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))
    try:
        bytearray(4 * _SPARE_BYTES)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, most))


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Let this process be called by what it is in the middle of; costs no round trip."""
    comm = Path("/proc/self/comm")
    if not comm.exists():
        yield
        return
    before = comm.read_text()
    comm.write_text(name)
    try:
        yield
    finally:
        comm.write_text(before)


@phased_task("releases.beat", Beat)
def beat(work: Work, message: Beat) -> None:
    """Its number says when the schedule fired."""
    fired_at = work.delivery.envelope.time.timestamp()
    with work.finish() as uow:
        record_effect(uow, f"{message.name} {fired_at:.6f}", "beat")


def reader_of(type_: str) -> str:
    """Name of the task that reads messages of a type of the catalogue and leaves one effect."""
    return f"workloads.read_{type_}"


def _read(uow: UnitOfWork, _message: Message) -> None:
    record_effect(uow, uow.context.causation_id, "read")


for _type, _kind in BY_TYPE.items():
    task(reader_of(_type), _kind)(_read)
# Schedulers look the type up.
BY_TYPE[Beat.type] = Beat


def record_effect(uow: UnitOfWork, number: str, kind: str) -> None:
    """The effect and its audit entry, in the transaction that ends the command."""
    uow.session.execute(_EFFECT, {"number": number, "kind": kind, "by": str(os.getpid())})
    uow.audit("probe.done", number)
