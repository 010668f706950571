"""One ringing of one delivery: takes the row, runs the body, decides what an error means. Once.

The first ringing costs one transaction: the row is taken in that of its effect. Rung again, or
when it calls out, its start is recorded in a transaction before: what kills its worker is counted,
and nobody begins it a second time while it runs.
"""

from __future__ import annotations

import random
import sysconfig
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from shared.context import Context
from shared.contracts.envelope import Message
from shared.db import UnitOfWork, Units
from shared.errors import (
    Conflict,
    Corrupt,
    Forbidden,
    Invalid,
    LeaseLost,
    Missing,
    PerpetuneError,
    Rejected,
    Unauthenticated,
)
from shared.ids import Project
from shared.logging import get_logger
from shared.process import process_settings
from shared.spine import deliveries
from shared.spine.deliveries import Delivery
from shared.work import Work

log = get_logger(__name__)

# Before its row is read, nobody knows which project a delivery is for.
NOBODY = Context.root(Project(""), "task")

# Repeating cannot help: a person or the sender has to act.
_FINAL = (Invalid, Unauthenticated, Forbidden, Rejected, Corrupt)
_BACKOFF_CAP_SECONDS = 60.0
_LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))


@dataclass(frozen=True, slots=True)
class Consumer:
    """
    What is done about a delivery.

    Attributes:
        message: What it carries.
        run: All of it, taking the delivery in the last transaction.
        effect: What `run` does in its only transaction; None when it has several.
    """

    message: type[Message]
    run: Callable[[Work], None]
    effect: Callable[[UnitOfWork, Delivery], None] | None = None


class Attempt:
    """One ringing of one delivery."""

    def __init__(
        self, units: Units, consumers: Mapping[str, Consumer], make_way: Callable[[], None]
    ) -> None:
        """
        Args:
            units: Of the role `app`.
            consumers: By task; a delivery for another task spends an attempt.
            make_way: Called before a body that may take long.
        """
        self._units = units
        self._consumers = consumers
        self._make_way = make_way
        self._delivery: Delivery | None = None

    def answer(self, delivery_id: str) -> None:
        """
        Do what the row asks for; nothing when it is done or another worker has it.

        Raises:
            Unavailable: Postgres was away before the row was read; it is rung again.
        """
        started = time.monotonic()
        try:
            if outcome := self._outcome(delivery_id):
                seconds = round(time.monotonic() - started, 4)
                log.info("task_finished", outcome=outcome, seconds=seconds)
        finally:
            structlog.contextvars.unbind_contextvars(
                "task", "delivery_id", "project", "correlation_id"
            )

    def _outcome(self, delivery_id: str) -> str | None:
        try:
            return self._carry_out(delivery_id)
        except LeaseLost:
            return "already_done"
        except Exception as error:  # the boundary: any bug must leave the row in a known state
            if self._delivery is None:
                raise
            return _settle(self._units, self._delivery, error)

    def _carry_out(self, delivery_id: str) -> str | None:
        with self._units.open(NOBODY) as uow:
            claim = deliveries.claim(
                uow.session, delivery_id, self._phased(), process_settings().ring_again_seconds
            )
            if claim is None:
                return None
            self._delivery = claim.delivery
            if claim.is_taken:
                consumer, context = self._prepare(claim.delivery)
                assert consumer.effect, "rows of other tasks are kept"
                consumer.effect(UnitOfWork(uow.session, context, claim.at), claim.delivery)
                return "done"
        return self._carry_out_at_length(claim.delivery)

    def _carry_out_at_length(self, delivery: Delivery) -> str | None:
        if delivery.starts >= process_settings().delivery_attempts:
            # Its last attempt ended its worker without a word, and who rings will bury it.
            return None
        consumer, context = self._prepare(delivery)
        self._make_way()
        consumer.run(Work(self._units, delivery, context))
        return "done"

    def _phased(self) -> list[str]:
        return [name for name, consumer in self._consumers.items() if consumer.effect is None]

    def _prepare(self, delivery: Delivery) -> tuple[Consumer, Context]:
        structlog.contextvars.bind_contextvars(
            task=delivery.task, delivery_id=delivery.id, project=delivery.project
        )
        consumer = self._consumers.get(delivery.task)
        if consumer is None:
            raise Missing(f"No worker here knows the task {delivery.task}.", code="task_unknown")
        envelope = delivery.envelope
        if envelope.project != delivery.project:
            raise Corrupt(
                "The envelope is another project's than its row.", code="message_of_another_project"
            )
        structlog.contextvars.bind_contextvars(correlation_id=envelope.correlationid)
        return consumer, envelope.context(f"task:{delivery.task}")


def _settle(units: Units, delivery: Delivery, error: Exception) -> str:
    """What *error* means for the row, whose transaction was rolled back."""
    work = Work(units, delivery, Context.root(delivery.project, f"task:{delivery.task}"))
    if isinstance(error, _FINAL):
        return _bury(work, f"{error.code}: {error.message}")
    if isinstance(error, PerpetuneError):
        return _retry(work, f"{error.code}: {error.message}", error)
    log.error("task_crashed", error=type(error).__name__, exc_info=error)
    return _retry(work, crash_of(error), None)


def _retry(work: Work, why: str, error: PerpetuneError | None) -> str:
    if work.delivery.starts + 1 >= process_settings().delivery_attempts:
        return _bury(work, f"gave up after {work.delivery.starts + 1} attempts; {why}")
    seconds = backoff_seconds(work.delivery.starts, error, random.random())
    with work.open() as uow:
        deliveries.defer(uow.session, work.delivery.id, seconds, why)
    return "deferred"


def _bury(work: Work, why: str) -> str:
    with work.open() as uow:
        begun = work.delivery.starts + 1
        if not deliveries.bury(uow.session, work.delivery.id, why, attempts=begun):
            return "already_done"
        uow.audit("delivery.buried", work.delivery.id, reason=why[:300])
    return "buried"


def crash_of(error: Exception) -> str:
    """
    What an error nobody foresaw is called in rows and in the audit log.

    By its type and the last place before it that is in no library; not by its text, which may
    quote what a customer wrote.
    """
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if not frame.filename.startswith(_LIBRARIES)]
    last = (ours or frames)[-1]
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"


def backoff_seconds(starts: int, error: PerpetuneError | None, chance: float) -> float:
    """
    How long to wait before the next attempt: capped exponential with full jitter.

    Args:
        starts: Attempts already spent, >= 0.
        error: What happened; its Retry-After is a lower bound.
        chance: Uniform in [0, 1).

    Source: "Exponential Backoff And Jitter", AWS architecture notes, 2015.
    """
    if isinstance(error, Conflict):
        return 0.05 + 0.2 * chance
    waited = chance * min(_BACKOFF_CAP_SECONDS, 0.5 * 2.0**starts)
    floor = error.retry_after if error is not None and error.retry_after else 0.0
    return max(floor, waited)
