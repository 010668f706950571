"""What operators want to know about the spine, over all projects. For the role `spine`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Backlog:
    """
    What one queue holds.

    Attributes:
        unfinished: All its deliveries, those that are due later included.
        due: Deliveries that wait for a worker, or that one is working on in a single transaction.
        oldest_due_seconds: How long the oldest of them has been due.
        oldest_retried_seconds: Age of the oldest delivery that was tried and did not succeed yet.
        dead: Dead letters.
    """

    queue: str
    unfinished: int
    due: int
    oldest_due_seconds: float
    oldest_retried_seconds: float
    dead: int


@dataclass(frozen=True, slots=True)
class LeaseFigures:
    """
    Long work of one kind.

    Attributes:
        open: Work that is not finished.
        expired: Work whose process has gone silent and that nobody has taken over yet.
        claims: How often the work that was claimed most often was claimed.
        expiries: How often work was taken over from a process that had gone silent, ever.
    """

    kind: str
    open: int
    expired: int
    claims: int
    expiries: int


@dataclass(frozen=True, slots=True)
class TableFigures:
    """Rows of a table of the spine as the statistics estimate them; dead ones wait for vacuum."""

    table: str
    live: int
    dead: int


def list_backlogs(session: Session, queues: Sequence[str]) -> list[Backlog]:
    """
    The backlog of each of *queues*.

    Dead letters of the queue door lie in a queue for each project; they count as `inference.door`.

    Cost: O(unfinished deliveries + dead letters).
    """
    rows = session.execute(
        text("""
            SELECT name, coalesce(rows.unfinished, 0), coalesce(rows.due, 0),
                   coalesce(rows.oldest_due, 0), coalesce(rows.oldest_retried, 0),
                   coalesce(dead.count, 0)
            FROM unnest(CAST(:queues AS text[])) AS name
            LEFT JOIN (
                SELECT queue, count(*) AS unfinished,
                       count(*) FILTER (WHERE due_at <= now()) AS due,
                       extract(epoch FROM now() - min(due_at)
                           FILTER (WHERE due_at <= now())) AS oldest_due,
                       extract(epoch FROM now() - min(created_at)
                           FILTER (WHERE starts > 0)) AS oldest_retried
                FROM spine.deliveries GROUP BY queue) AS rows ON rows.queue = name
            LEFT JOIN (
                SELECT regexp_replace(queue, '^inference[.]door[.].*', 'inference.door') AS queue,
                       count(*) AS count
                FROM spine.dead_letters GROUP BY 1) AS dead ON dead.queue = name
        """),
        {"queues": list(queues)},
    )
    return [
        Backlog(row[0], int(row[1]), int(row[2]), float(row[3]), float(row[4]), int(row[5]))
        for row in rows
    ]


def list_leases(session: Session) -> list[LeaseFigures]:
    """Figures of each kind of long work that there is, or of which some was ever taken over."""
    rows = session.execute(
        text("""
            SELECT kind, coalesce(open, 0), coalesce(expired, 0), coalesce(claims, 0),
                   coalesce(expiries, 0)
            FROM (
                SELECT kind, count(*) AS open, max(attempts) AS claims,
                       count(*) FILTER (
                           WHERE owner IS NOT NULL AND until < clock_timestamp()) AS expired
                FROM spine.leases GROUP BY kind) AS now
            FULL JOIN (
                SELECT kind, sum(count) AS expiries FROM spine.lease_expiries GROUP BY kind
            ) AS ever USING (kind)
            ORDER BY kind
        """)
    )
    return [LeaseFigures(row[0], *map(int, row[1:])) for row in rows]


def list_tables(session: Session) -> list[TableFigures]:
    """Figures of each table of the spine."""
    rows = session.execute(
        text("""
            SELECT relname, n_live_tup, n_dead_tup FROM pg_stat_user_tables
            WHERE schemaname = 'spine' ORDER BY relname
        """)
    )
    return [TableFigures(row[0], int(row[1]), int(row[2])) for row in rows]
