"""Schedules: rows that emit a message again and again. Any number of schedulers may run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from shared.contracts.envelope import Envelope, Message

if TYPE_CHECKING:
    from shared.db import UnitOfWork


def every(uow: UnitOfWork, seconds: float, message: Message) -> None:
    """
    Emit *message* every *seconds* from now on, until `stop`; one schedule per type and subject.

    Args:
        uow: The unit of work the schedule is stored in.
        seconds: Period, at least 0.1.
        message: Its consumers get a new delivery each period, unless one is still unfinished.
    """
    uow.session.execute(
        text("""
            INSERT INTO spine.schedules (project, type, subject, envelope, every, due_at)
            VALUES (:project, :type, :subject, CAST(:envelope AS jsonb),
                    make_interval(secs => :seconds), now() + make_interval(secs => :seconds))
            ON CONFLICT (project, type, subject) DO UPDATE
            SET every = excluded.every, envelope = excluded.envelope
        """),
        {
            "project": uow.project,
            "type": message.type,
            "subject": message.subject,
            "envelope": Envelope.seal(message, uow.context, uow.now).model_dump_json(),
            "seconds": seconds,
        },
    )


def stop(uow: UnitOfWork, message: Message) -> None:
    """End the schedule of this type and subject; none is no error."""
    uow.session.execute(
        text(
            "DELETE FROM spine.schedules "
            "WHERE project = :project AND type = :type AND subject = :subject"
        ),
        {"project": uow.project, "type": message.type, "subject": message.subject},
    )
