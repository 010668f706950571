"""The task boundary: takes the delivery, opens the unit of work, decides about errors. Once.

A task body is a few lines: `@task("room.verb_object", Message)` on a function
`(uow, message) -> None`, run in the transaction that takes the delivery. One that makes a
foreign call is marked with `@phased_task` and gets a `Work` to open one unit per phase; only
its last, `work.finish()`, takes the delivery.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog
from celery import shared_task

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
from shared.process import process_settings, process_units
from shared.spine import deliveries
from shared.spine.deliveries import Delivery

log = get_logger(__name__)

M = TypeVar("M", bound=Message)

# Repeating cannot help: a person or the sender has to act.
_FINAL = (Invalid, Unauthenticated, Forbidden, Rejected, Corrupt)
_BACKOFF_CAP_SECONDS = 60.0

REGISTERED: dict[str, type[Message]] = {}


@dataclass(frozen=True)
class Work:
    """What a phased task works with: units of work, and the delivery it answers for."""

    units: Units
    delivery: Delivery
    context: Context

    @contextmanager
    def open(self) -> Iterator[UnitOfWork]:
        """One phase; the delivery stays due should the process die after it."""
        with self.units.open(self.context) as uow:
            yield uow

    @contextmanager
    def finish(self) -> Iterator[UnitOfWork]:
        """The last phase: takes the delivery in the transaction of its effect.

        Raises:
            LeaseLost: Another worker finished it meanwhile; nothing is written here.
        """
        with self.units.open(self.context) as uow:
            if deliveries.take(uow.session, self.delivery.id) is None:
                raise LeaseLost(f"Delivery {self.delivery.id} was finished by another worker.")
            yield uow


def task(
    name: str, message: type[M]
) -> Callable[[Callable[[UnitOfWork, M], None]], Callable[[UnitOfWork, M], None]]:
    """
    Register a consumer of *message* whose effect is one transaction.

    Args:
        name: `<room>.<verb>_<object>`; wire format, stable over releases.
        message: The command or fact it consumes.
    """

    def register(body: Callable[[UnitOfWork, M], None]) -> Callable[[UnitOfWork, M], None]:
        def run(work: Work) -> None:
            with work.finish() as uow:
                body(uow, message.read(work.delivery.envelope.data))

        _register(name, message, run)
        return body

    return register


def phased_task(
    name: str, message: type[M]
) -> Callable[[Callable[[Work, M], None]], Callable[[Work, M], None]]:
    """
    Register a consumer of *message* that calls out between its transactions.

    The body must end with exactly one `with work.finish()`.
    """

    def register(body: Callable[[Work, M], None]) -> Callable[[Work, M], None]:
        def run(work: Work) -> None:
            body(work, message.read(work.delivery.envelope.data))

        _register(name, message, run)
        return body

    return register


def _register(name: str, message: type[Message], run: Callable[[Work], None]) -> None:
    REGISTERED[name] = message

    @shared_task(name=name)  # type: ignore[untyped-decorator]  # celery ships no types
    def ring(delivery_id: str) -> None:
        answer(name, delivery_id, run)


def answer(name: str, delivery_id: str, run: Callable[[Work], None]) -> None:
    """Answer one ringing: find the row, run the body, decide what an error means for the row."""
    units = process_units()
    nobody = Context.root(Project(""), f"task:{name}")
    with units.open(nobody) as uow:
        delivery = deliveries.peek(uow.session, delivery_id)
    if delivery is None or delivery.task != name:
        return
    if delivery.starts >= process_settings().delivery_attempts:
        # The last attempt ended its worker without a word; who rings will bury it.
        return
    work = Work(units, delivery, Context.root(delivery.project, f"task:{name}"))
    structlog.contextvars.bind_contextvars(
        task=name, delivery_id=delivery_id, project=delivery.project
    )
    started = time.monotonic()
    try:
        outcome = _attempt(work, run)
        log.info("task_finished", outcome=outcome, seconds=round(time.monotonic() - started, 4))
    finally:
        structlog.contextvars.unbind_contextvars("task", "delivery_id", "project", "correlation_id")


def answer_unknown(name: str, delivery_id: str) -> None:
    """
    Spend an attempt of a delivery whose task this worker does not have.

    During a deployment a newer worker has it; if there never is one, the attempts run out and
    the delivery becomes a dead letter instead of being rung for ever.
    """

    def run(_work: Work) -> None:
        raise Missing(f"No worker here knows the task {name}.", code="task_unknown")

    answer(name, delivery_id, run)


def _attempt(work: Work, run: Callable[[Work], None]) -> str:
    try:
        envelope = work.delivery.envelope
        structlog.contextvars.bind_contextvars(correlation_id=envelope.correlationid)
        run(replace(work, context=envelope.context(work.context.actor)))
    except LeaseLost:
        return "already_done"
    except _FINAL as error:
        return _bury(work, f"{error.code}: {error.message}")
    except PerpetuneError as error:
        return _retry(work, f"{error.code}: {error.message}", error)
    except Exception as error:  # the boundary: any bug must leave the row in a known state
        log.exception("task_crashed", error=type(error).__name__)
        # Of a database error the first line says what; the others quote values.
        return _retry(work, f"{type(error).__name__}: {error}".partition("\n")[0], None)
    return "done"


def _retry(work: Work, why: str, error: PerpetuneError | None) -> str:
    if work.delivery.starts + 1 >= process_settings().delivery_attempts:
        return _bury(work, f"gave up after {work.delivery.starts + 1} attempts; {why}")
    seconds = backoff_seconds(work.delivery.starts, error, random.random())
    with work.open() as uow:
        deliveries.defer(uow.session, work.delivery.id, seconds, why)
    return "deferred"


def _bury(work: Work, why: str) -> str:
    with work.open() as uow:
        if not deliveries.bury(uow.session, work.delivery.id, why):
            return "already_done"
        uow.audit("delivery.buried", work.delivery.id, reason=why[:300])
    return "buried"


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


def registered_tasks() -> dict[str, type[Message]]:
    """Names of all tasks imported so far, and what they consume."""
    return dict(REGISTERED)
