"""How a room says what it does about a message; `shared/answering.py` does it when the bell rings.

A task body is a few lines: `@task("room.verb_object", Message)` on a function
`(uow, message) -> None`, run in the transaction that takes the delivery. One that makes a
foreign call is marked with `@phased_task` and gets a `Work` to open one unit per phase; only
its last, `work.finish()`, takes the delivery.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from celery import shared_task

from shared.answering import CONSUMERS, answer
from shared.attempt import Consumer
from shared.broker import FURTHER
from shared.contracts.envelope import Message
from shared.db import UnitOfWork
from shared.spine.deliveries import Delivery
from shared.work import Work

__all__ = ["Work", "phased_task", "registered_tasks", "task"]

M = TypeVar("M", bound=Message)


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
        def effect(uow: UnitOfWork, delivery: Delivery) -> None:
            body(uow, message.read(delivery.envelope.data))

        def run(work: Work) -> None:
            with work.finish() as uow:
                effect(uow, work.delivery)

        _register(name, Consumer(message, run, effect))
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

        _register(name, Consumer(message, run))
        return body

    return register


def _register(name: str, consumer: Consumer) -> None:
    CONSUMERS[name] = consumer

    @shared_task(name=name, bind=True)  # type: ignore[untyped-decorator]  # celery ships no types
    def ring(self: Any, delivery_id: str) -> None:  # noqa: ANN401 - celery's task
        answer([delivery_id, *(self.request.get(FURTHER) or [])])


def registered_tasks() -> dict[str, type[Message]]:
    """Names of all tasks imported so far, and what they consume."""
    return {name: consumer.message for name, consumer in CONSUMERS.items()}
