"""Statements on `spine.deliveries`, as the role `spine`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from services.delivery.domain import Due
from shared.ids import Project

# One ringer at a time makes the window exact; a second one passes its turn.
_RINGER_LOCK = 7_316_003

# Projects of a queue are found by skipping through the index, so that a backlog costs nothing.
_DUE = text("""
    SELECT CAST(found.id AS text) AS id, open.queue, owner.project, found.task, found.rings
    FROM unnest(CAST(:queues AS text[]), CAST(:places AS int[])) AS open (queue, places)
    CROSS JOIN LATERAL (
        WITH RECURSIVE projects AS (
            (SELECT min(project) AS project FROM spine.deliveries WHERE queue = open.queue)
            UNION ALL
            SELECT (SELECT min(further.project) FROM spine.deliveries AS further
                    WHERE further.queue = open.queue AND further.project > projects.project)
            FROM projects WHERE projects.project IS NOT NULL)
        SELECT project FROM projects WHERE project IS NOT NULL) AS owner
    CROSS JOIN LATERAL (
        SELECT d.id, d.task, d.rings, d.due_at, d.seq FROM spine.deliveries AS d
        WHERE d.queue = open.queue AND d.project = owner.project AND d.due_at <= now()
          AND (d.rung_at IS NULL OR d.rung_at < now() - make_interval(secs => :again))
          AND d.starts < :attempts
          AND (d.lane IS NULL OR NOT EXISTS (
              SELECT FROM spine.deliveries AS older
              WHERE older.task = d.task AND older.lane = d.lane AND older.project = d.project
                AND older.seq < d.seq))
        ORDER BY d.due_at, d.seq LIMIT open.places) AS found
    ORDER BY open.queue, owner.project, found.due_at, found.seq
""")
_MARK = text("""
    UPDATE spine.deliveries SET rung_at = clock_timestamp(), rings = rings + 1
    WHERE id IN (SELECT id FROM spine.deliveries
                 WHERE id = ANY(CAST(:ids AS uuid[])) AND due_at <= now()
                 FOR UPDATE SKIP LOCKED)
    RETURNING CAST(id AS text)
""")


# A backlog that came at once is not in the statistics yet, and a plan made without them would read
# all of it every round.
_BY_INDEX = text("SET LOCAL enable_seqscan = off")
_LOCK = text("SELECT pg_try_advisory_xact_lock(:key), set_config('enable_seqscan', 'off', true)")
_IN_FLIGHT = text("""
    SELECT queue, project, count(*) FROM spine.deliveries
    WHERE rung_at IS NOT NULL AND rung_at >= now() - make_interval(secs => :again)
    GROUP BY queue, project
""")


@dataclass(frozen=True, slots=True)
class Exhausted:
    """A delivery that has no attempts left and did not end."""

    id: str
    project: Project
    starts: int
    last_error: str | None


def is_ringer(session: Session) -> bool:
    """Whether this transaction is the one that rings."""
    return bool(session.execute(_LOCK, {"key": _RINGER_LOCK}).one()[0])


def count_in_flight(session: Session, again_seconds: float) -> dict[tuple[str, str], int]:
    """Deliveries rung within the last *again_seconds* and unfinished, by (queue, project)."""
    rows = session.execute(_IN_FLIGHT, {"again": again_seconds})
    return {(row[0], row[1]): int(row[2]) for row in rows}


def list_due(
    session: Session, places: Mapping[str, int], *, again_seconds: float, attempts: int
) -> list[Due]:
    """Per queue and project at most as many due deliveries as the queue has places.

    Args:
        session: Of the role `spine`.
        places: Free places per queue.
        again_seconds: A delivery rung longer ago may be rung again.
        attempts: Starts after which it is not rung any more.

    Cost: O(queues x projects x places), whatever the backlog.
    """
    rows = session.execute(
        _DUE,
        {
            "queues": list(places),
            "places": list(places.values()),
            "again": again_seconds,
            "attempts": attempts,
        },
    )
    return [Due(*row) for row in rows]


def mark_rung(session: Session, messages: Sequence[Sequence[Due]]) -> list[list[Due]]:
    """Record the ringing; the messages without what a worker holds right now."""
    ids = [due.id for message in messages for due in message]
    marked = set(session.execute(_MARK, {"ids": ids}).scalars())
    left = ([due for due in message if due.id in marked] for message in messages)
    return [message for message in left if message]


def unmark(session: Session, unrung: Sequence[Due]) -> None:
    """Take back ringings, so that they are due at once; what a worker holds was rung after all."""
    session.execute(
        text("""
            UPDATE spine.deliveries SET rung_at = NULL, rings = greatest(rings - 1, 0)
            WHERE id IN (SELECT id FROM spine.deliveries WHERE id = ANY(CAST(:ids AS uuid[]))
                         FOR UPDATE SKIP LOCKED)
        """),
        {"ids": [due.id for due in unrung]},
    )


def unmark_all(session: Session) -> int:
    """Forget every ringing; returns how many there were."""
    forgotten = session.execute(
        text("""
            UPDATE spine.deliveries SET rung_at = NULL, rings = greatest(rings - 1, 0)
            WHERE id IN (SELECT id FROM spine.deliveries WHERE rung_at IS NOT NULL
                         FOR UPDATE SKIP LOCKED)
            RETURNING 1
        """)
    ).all()
    return len(forgotten)


def list_exhausted(session: Session, *, attempts: int, again_seconds: float) -> list[Exhausted]:
    """
    Deliveries without attempts left that are not being carried out; locked for this transaction.

    A start is recorded with every ringing after the first, also of a row that only waited long in
    the bus. So the last attempt is given *again_seconds* from its ringing and from its beginning.
    """
    session.execute(_BY_INDEX)
    rows = session.execute(
        text("""
            SELECT CAST(id AS text), project, starts, last_error FROM spine.deliveries
            WHERE starts > 0 AND starts >= :attempts AND due_at <= now()
              AND (rung_at IS NULL OR rung_at < now() - make_interval(secs => :again))
            ORDER BY starts LIMIT 100 FOR UPDATE SKIP LOCKED
        """),
        {"attempts": attempts, "again": again_seconds},
    )
    return [Exhausted(*row) for row in rows]


def is_unfinished(session: Session, project: str, tasks: Sequence[str], key: str) -> bool:
    """Whether a delivery with this coalescing key is on its way to one of *tasks*."""
    return bool(
        session.execute(
            text("""
                SELECT EXISTS (SELECT FROM spine.deliveries
                WHERE project = :project AND task = ANY(:tasks) AND key = :key)
            """),
            {"project": project, "tasks": list(tasks), "key": key},
        ).scalar_one()
    )
