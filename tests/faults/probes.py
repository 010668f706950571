"""Commands whose effects can be counted, and the tasks that answer them."""

from __future__ import annotations

import os
import time
from typing import ClassVar

from sqlalchemy import text

from shared.contracts.catalogue import CONSUMERS
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


CONSUMERS[Probe] = ("drift.probe",)
CONSUMERS[PhasedProbe] = ("feedback.phased_probe",)


@task("drift.probe", Probe)
def probe(uow: UnitOfWork, message: Probe) -> None:
    time.sleep(message.hold_seconds / 2)
    record_effect(uow, message.number, "probe")
    time.sleep(message.hold_seconds / 2)


@phased_task("feedback.phased_probe", PhasedProbe)
def phased_probe(work: Work, message: PhasedProbe) -> None:
    with work.open() as uow:
        uow.session.execute(_RESERVATION, {"number": message.number})
    time.sleep(message.hold_seconds / 2)
    place_order(os.environ["FAULTS_ORDERS_URL"], message.number)
    time.sleep(message.hold_seconds / 2)
    with work.finish() as uow:
        record_effect(uow, message.number, "phased")


def record_effect(uow: UnitOfWork, number: str, kind: str) -> None:
    """The effect and its audit entry, in the transaction that ends the command."""
    uow.session.execute(_EFFECT, {"number": number, "kind": kind, "by": str(os.getpid())})
    uow.audit("probe.done", number)
