"""Leases with fencing, for work that outlives a message: claimed, renewed by progress, fenced.

Every takeover raises the fence; every guarded write names the fence it holds. A process that
sleeps through its lease wakes up with an old fence and can change nothing. Time is the
database's.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from shared.errors import LeaseLost
from shared.ids import Project

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from shared.db import UnitOfWork


@dataclass(frozen=True, slots=True)
class Lease:
    """A claim on one piece of long work."""

    kind: str
    subject: str
    project: Project
    owner: str
    fence: int
    attempts: int


def offer(uow: UnitOfWork, kind: str, subject: str) -> None:
    """Put *subject* up for claiming, in this transaction; a second offer changes nothing."""
    uow.session.execute(
        text(
            "INSERT INTO spine.leases (kind, subject, project) "
            "VALUES (:kind, :subject, :project) ON CONFLICT DO NOTHING"
        ),
        {"kind": kind, "subject": subject, "project": uow.project},
    )


def claim(
    session: Session,
    kind: str,
    owner: str,
    seconds: float,
    *,
    passing_over: Collection[Project] = (),
) -> Lease | None:
    """Claim the longest-waiting free or expired piece of work of *kind*; None when there is none.

    One that is taken over from a silent process is counted as expired.

    Args:
        session: Of the `spine` role, which sees all projects.
        kind: For example `finetuning.job`.
        owner: Name of the claiming process.
        seconds: How long the claim holds without renewal.
        passing_over: Projects whose work is left to others, or for later.
    """
    row = session.execute(
        text("""
            WITH found AS (
                SELECT kind, subject, project, owner AS holder FROM spine.leases
                WHERE kind = :kind AND (until IS NULL OR until < clock_timestamp())
                    AND project <> ALL(CAST(:passing_over AS text[]))
                ORDER BY offered_at LIMIT 1 FOR UPDATE SKIP LOCKED),
            expired AS (
                INSERT INTO spine.lease_expiries AS seen (project, kind, count)
                SELECT project, kind, 1 FROM found WHERE holder IS NOT NULL
                ON CONFLICT (project, kind) DO UPDATE SET count = seen.count + 1)
            UPDATE spine.leases AS lease
            SET owner = :owner, fence = fence + 1, attempts = attempts + 1,
                until = clock_timestamp() + make_interval(secs => :seconds)
            FROM found WHERE lease.kind = found.kind AND lease.subject = found.subject
            RETURNING lease.kind, lease.subject, lease.project, owner, fence, attempts
        """),
        {"kind": kind, "owner": owner, "seconds": seconds, "passing_over": list(passing_over)},
    ).one_or_none()
    return None if row is None else Lease(*row)


def renew(session: Session, lease: Lease, seconds: float) -> None:
    """
    Hold the lease for *seconds* from now.

    Raises:
        LeaseLost: Somebody else claimed it, or the work was withdrawn.
    """
    renewed = session.execute(
        text("SELECT spine.renew(:kind, :subject, :fence, :seconds)"),
        {"kind": lease.kind, "subject": lease.subject, "fence": lease.fence, "seconds": seconds},
    ).scalar_one()
    if not renewed:
        raise LeaseLost(f"The lease on {lease.subject} went to another process.")


def guard(uow: UnitOfWork, lease: Lease) -> None:
    """
    Let this transaction commit only under *lease*; blocks a takeover until it ends.

    Raises:
        LeaseLost: The fence is not ours any more.
    """
    held = uow.session.execute(
        text("SELECT spine.guard(:kind, :subject, :fence)"),
        {"kind": lease.kind, "subject": lease.subject, "fence": lease.fence},
    ).scalar_one()
    if not held:
        raise LeaseLost(f"The lease on {lease.subject} went to another process.")


def finish(uow: UnitOfWork, lease: Lease) -> None:
    """
    End the work in this transaction: guarded, and the lease is gone afterwards.

    Raises:
        LeaseLost: The fence is not ours any more.
    """
    guard(uow, lease)
    withdraw(uow, lease.kind, lease.subject)


def withdraw(uow: UnitOfWork, kind: str, subject: str) -> None:
    """Remove the lease whoever holds it (cancellation): its holder's next write is refused."""
    uow.session.execute(
        text("SELECT spine.withdraw(:kind, :subject)"), {"kind": kind, "subject": subject}
    )


def lock(uow: UnitOfWork, kind: str, subject: str) -> None:
    """
    Keep the lease as it is until this transaction ends, whoever holds it.

    Whoever changes both locks the lease before what it is about, as its holder does.
    """
    uow.session.execute(
        text("SELECT spine.lock_lease(:kind, :subject)"), {"kind": kind, "subject": subject}
    )


def shelve(uow: UnitOfWork, kind: str, subject: str) -> None:
    """
    Take the lease away from whoever holds it, and let nobody claim it until it is unshelved.

    Its fence is kept and raised; were it withdrawn and offered anew, fences would begin again, and
    a holder that slept meanwhile could write under an old one.
    """
    uow.session.execute(
        text("SELECT spine.shelve(:kind, :subject)"), {"kind": kind, "subject": subject}
    )


def unshelve(uow: UnitOfWork, kind: str, subject: str) -> None:
    """Put a shelved lease up for claiming; one that is not shelved stays as it is."""
    uow.session.execute(
        text("SELECT spine.unshelve(:kind, :subject)"), {"kind": kind, "subject": subject}
    )


def let_go(session: Session, lease: Lease) -> None:
    """Give the lease back unfinished, so that another process may claim it at once."""
    session.execute(
        text(
            "UPDATE spine.leases SET until = NULL, owner = NULL "
            "WHERE kind = :kind AND subject = :subject AND fence = :fence"
        ),
        {"kind": lease.kind, "subject": lease.subject, "fence": lease.fence},
    )


def set_aside(session: Session, lease: Lease, seconds: float) -> None:
    """Give the lease back unfinished: in so many *seconds* it may be claimed, behind all others."""
    session.execute(
        text("""
            UPDATE spine.leases SET owner = NULL, offered_at = clock_timestamp(),
                until = clock_timestamp() + make_interval(secs => :seconds)
            WHERE kind = :kind AND subject = :subject AND fence = :fence
        """),
        {
            "kind": lease.kind,
            "subject": lease.subject,
            "fence": lease.fence,
            "seconds": seconds,
        },
    )
