"""Deliveries: a row per consumer is the work itself; what the broker carries only rings it.

A row is written in the transaction of the change that causes it, and deleted in the transaction
of its effect. So a message that arrives twice, late or forged finds no row and does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from shared.contracts.envelope import Envelope, Message
from shared.ids import DeliveryId, Project, uuid7

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from shared.db import UnitOfWork

_INSERT = text("""
    INSERT INTO spine.deliveries (id, project, queue, task, envelope, lane, key, due_at)
    VALUES (:id, :project, :queue, :task, CAST(:envelope AS jsonb), :lane, :key,
            now() + make_interval(secs => :due_in))
    ON CONFLICT DO NOTHING
""")
_PUBLISH = text("""
    INSERT INTO spine.events (id, project, type, envelope)
    VALUES (:id, :project, :type, CAST(:envelope AS jsonb))
""")
_CLAIM = text("""
    SELECT is_taken, id, project, queue, task, starts, envelope, now() AS at,
           set_config('app.project', project, true)
    FROM spine.claim(CAST(:id AS uuid), CAST(:kept AS text[]), CAST(:again AS double precision))
""")
_TAKE = text("SELECT id, project, queue, task, starts, envelope FROM spine.take(CAST(:id AS uuid))")


@dataclass(frozen=True, slots=True)
class Delivery:
    """
    One message for one consumer.

    Attributes:
        stored: The envelope as it lies in the row.
    """

    id: DeliveryId
    project: Project
    queue: str
    task: str
    starts: int
    stored: dict[str, Any]

    @property
    def envelope(self) -> Envelope:
        """
        Raises:
            Corrupt: The row holds something else.
        """
        return Envelope.read(self.stored)


@dataclass(frozen=True, slots=True)
class Claim:
    """
    A row as a worker finds it when it is rung.

    Attributes:
        is_taken: It is deleted in this transaction, which acts for its project from now on.
            Otherwise this transaction has recorded its start, and has to end before the body runs.
        at: The instant this transaction began, by the database clock, UTC.
    """

    delivery: Delivery
    is_taken: bool
    at: datetime


def emit(uow: UnitOfWork, message: Message, *, due_in_seconds: float = 0.0) -> str:
    """Write one delivery per consumer of *message*, and an event if it is public.

    Returns:
        The id of the envelope, shared by all its deliveries.
    """
    from shared.contracts.catalogue import consumers_of  # noqa: PLC0415 - imports all contracts

    envelope = Envelope.seal(message, uow.context, uow.now)
    body = envelope.model_dump_json()
    for task in consumers_of(type(message)):
        uow.session.execute(
            _INSERT,
            {
                "id": uuid7(),
                "project": uow.project,
                "queue": queue_of(task),
                "task": task,
                "envelope": body,
                "lane": message.lane,
                "key": message.coalesce_key,
                "due_in": due_in_seconds,
            },
        )
    if message.public:
        uow.session.execute(
            _PUBLISH,
            {"id": envelope.id, "project": uow.project, "type": envelope.type, "envelope": body},
        )
    return envelope.id


def queue_of(task: str) -> str:
    """The queue of a task is the name of its room: `releases.fold` -> `releases`."""
    return task.partition(".")[0]


def claim(
    session: Session, delivery_id: str, kept: Sequence[str], again_seconds: float
) -> Claim | None:
    """
    Take the row of a first ringing, in one round trip; record the start of any other.

    Args:
        session: Of a transaction that acts for no project yet.
        delivery_id: Which.
        kept: Tasks whose row is not taken yet, because they take it in their last transaction.
        again_seconds: So long nobody else begins a row whose start was recorded.

    Returns:
        None when it is done already, when it is due later, or when another worker has it right now.
    """
    row = session.execute(
        _CLAIM, {"id": delivery_id, "kept": list(kept), "again": again_seconds}
    ).one_or_none()
    return None if row is None else Claim(_delivery(row), row.is_taken, row.at)


def take(session: Session, delivery_id: str) -> Delivery | None:
    """
    Delete the row in the current transaction and return it.

    Returns:
        None when it is done already, or when another worker holds it right now.
    """
    row = session.execute(_TAKE, {"id": delivery_id}).one_or_none()
    return None if row is None or row.id is None else _delivery(row)


def give_back(session: Session, delivery_ids: Sequence[str]) -> None:
    """Make rows due at once that were rung and will not be answered; no attempt is spent."""
    session.execute(
        text("SELECT spine.give_back(CAST(:ids AS uuid[]))"), {"ids": list(delivery_ids)}
    )


def defer(session: Session, delivery_id: str, seconds: float, error: str) -> None:
    """Make the row due again in *seconds*, one attempt spent."""
    session.execute(
        text("SELECT spine.defer(CAST(:id AS uuid), :seconds, :error)"),
        {"id": delivery_id, "seconds": seconds, "error": error[:500]},
    )


def hasten(session: Session, task: str, lane: str) -> None:
    """Make what waits in a lane of the current project due now; not what was rung already."""
    session.execute(text("SELECT spine.hasten(:task, :lane)"), {"task": task, "lane": lane})


def bury(session: Session, delivery_id: str, reason: str, *, attempts: int) -> bool:
    """
    Turn the row into a dead letter.

    Args:
        session: Of either role.
        delivery_id: Which.
        reason: For whoever reads the dead letter.
        attempts: How often it was begun.

    Returns:
        False when there was no row any more: it was done, or buried by another worker.
    """
    session.execute(
        text("SELECT spine.bury(CAST(:id AS uuid), :reason, :attempts)"),
        {"id": delivery_id, "reason": reason[:500], "attempts": attempts},
    )
    # Both instants are the beginning of a transaction, so the letter is of this one or of none.
    return bool(
        session.execute(
            text(
                "SELECT EXISTS (SELECT FROM spine.dead_letters "
                "WHERE id = CAST(:id AS uuid) AND buried_at = now())"
            ),
            {"id": delivery_id},
        ).scalar_one()
    )


def _delivery(row: object) -> Delivery:
    return Delivery(
        id=DeliveryId(str(row.id)),  # type: ignore[attr-defined]  # a Row has its columns
        project=Project(row.project),  # type: ignore[attr-defined]  # as above
        queue=row.queue,  # type: ignore[attr-defined]  # as above
        task=row.task,  # type: ignore[attr-defined]  # as above
        starts=row.starts,  # type: ignore[attr-defined]  # as above
        stored=row.envelope,  # type: ignore[attr-defined]  # as above
    )
