"""Statements on `delivery.webhook_endpoints` and `delivery.webhook_attempts`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.cursor import Cursor


@dataclass(frozen=True, slots=True)
class Endpoint:
    """
    A receiver outside.

    Attributes:
        event_types: OpenAI's names of what it wants.
        secret_version: Of the secret in use.
        old_secret_until: Until then the one before is valid as well.
        failures: Attempts in a row that came to nothing.
        disabled_at: Since when nothing is sent any more.
    """

    id: str
    project: str
    name: str
    url: str
    event_types: list[str]
    secret_version: int
    old_secret_until: datetime | None
    failures: int
    failing_since: datetime | None
    disabled_at: datetime | None
    created_at: datetime
    updated_at: datetime
    rotated_at: datetime | None


@dataclass(frozen=True, slots=True)
class Held:
    """
    An endpoint with news, held by this process for a while.

    Attributes:
        cursor: Where it stands.
        until: When the hold ends; who finds another end holds it no more.
    """

    endpoint: Endpoint
    cursor: Cursor
    until: datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """
    One request to an endpoint.

    Attributes:
        status: Of the answer; None when there was none.
        answer: Its first 2,048 characters.
        error: Why there was none.
    """

    event_id: str
    event_type: str
    status: int | None
    answer: str | None
    error: str | None
    milliseconds: int
    created_at: datetime | None = None
    seq: int | None = None

    @property
    def id(self) -> str:
        """For pages."""
        return str(self.seq)

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


_COLUMNS = (
    "id, project, name, url, event_types, secret_version, old_secret_until, failures, "
    "failing_since, disabled_at, created_at, updated_at, rotated_at"
)
_SELECT = f"SELECT {_COLUMNS} FROM delivery.webhook_endpoints"  # noqa: S608 - a constant


def insert(
    session: Session, project: str, id_: str, name: str, url: str, event_types: Sequence[str]
) -> None:
    session.execute(
        text("""
            INSERT INTO delivery.webhook_endpoints (id, project, name, url, event_types)
            VALUES (:id, :project, :name, :url, :event_types)
        """),
        {
            "id": id_,
            "project": project,
            "name": name,
            "url": url,
            "event_types": list(event_types),
        },
    )


def find(session: Session, id_: str) -> Endpoint | None:
    """An endpoint of the project."""
    row = session.execute(
        text(_SELECT + " WHERE id = :id"),
        {"id": id_},
    ).one_or_none()
    return None if row is None else Endpoint(*row)


def find_twin(
    session: Session, name: str, url: str, event_types: Sequence[str], window_seconds: float
) -> Endpoint | None:
    """The newest endpoint that was made from the same request within the window."""
    row = session.execute(
        text(
            _SELECT
            + """ WHERE name = :name AND url = :url AND event_types = :event_types
                AND created_at > now() - make_interval(secs => :window)
                ORDER BY id DESC LIMIT 1"""
        ),
        {"name": name, "url": url, "event_types": list(event_types), "window": window_seconds},
    ).one_or_none()
    return None if row is None else Endpoint(*row)


def list_from(session: Session, after: str | None, limit: int) -> list[Endpoint]:
    """At most *limit* endpoints of the project, newest first, older than *after*."""
    rows = session.execute(
        text(
            _SELECT
            + """ WHERE CAST(:after AS text) IS NULL OR id < :after
                ORDER BY id DESC LIMIT :limit"""
        ),
        {"after": after, "limit": limit},
    )
    return [Endpoint(*row) for row in rows]


def update(
    session: Session, id_: str, *, name: str | None, url: str | None, types: Sequence[str] | None
) -> None:
    """Set what is not None; whatever was wrong with the endpoint is forgotten."""
    session.execute(
        text("""
            UPDATE delivery.webhook_endpoints
            SET name = coalesce(:name, name), url = coalesce(:url, url),
                event_types = coalesce(CAST(:types AS text[]), event_types),
                failures = 0, failing_since = NULL, disabled_at = NULL,
                held_until = clock_timestamp(),
                updated_at = CASE
                    WHEN coalesce(:name, name) = name AND coalesce(:url, url) = url
                     AND coalesce(CAST(:types AS text[]), event_types) = event_types
                    THEN updated_at ELSE now() END
            WHERE id = :id
        """),
        {"id": id_, "name": name, "url": url, "types": None if types is None else list(types)},
    )


def rotate(session: Session, id_: str, *, keep_old_seconds: float) -> None:
    """The next version of the secret is in use from now on."""
    session.execute(
        text("""
            UPDATE delivery.webhook_endpoints
            SET secret_version = secret_version + 1, updated_at = now(), rotated_at = now(),
                old_secret_until = now() + make_interval(secs => :keep)
            WHERE id = :id
        """),
        {"id": id_, "keep": keep_old_seconds},
    )


def delete(session: Session, id_: str) -> None:
    """Remove an endpoint and its log."""
    session.execute(text("DELETE FROM delivery.webhook_endpoints WHERE id = :id"), {"id": id_})


def list_attempts(
    session: Session, endpoint_id: str, after: str | None, limit: int
) -> list[Attempt]:
    """At most *limit* attempts, latest first, before *after*."""
    rows = session.execute(
        text("""
            SELECT event_id, event_type, status, answer, error, milliseconds, created_at, seq
            FROM delivery.webhook_attempts
            WHERE endpoint_id = :endpoint_id
              AND (CAST(:after AS bigint) IS NULL OR seq < :after)
            ORDER BY seq DESC LIMIT :limit
        """),
        {"endpoint_id": endpoint_id, "after": after, "limit": limit},
    )
    return [Attempt(*row) for row in rows]


# What follows is the sender's, as the role `spine`, for all projects.

_HOLD = text(f"""
    UPDATE delivery.webhook_endpoints
    SET held_until = clock_timestamp() + make_interval(secs => :seconds)
    WHERE held_until <= clock_timestamp() AND id IN (
        SELECT id FROM (
            SELECT w.id, w.held_until, w.project,
                   row_number() OVER (PARTITION BY w.project ORDER BY w.held_until) AS place
            FROM delivery.webhook_endpoints AS w
            WHERE w.held_until <= clock_timestamp() AND w.disabled_at IS NULL AND EXISTS (
                SELECT FROM spine.events AS e
                WHERE e.project = w.project AND (e.xid, e.seq) > (w.cursor_xid, w.cursor_seq)
                  AND e.xid < pg_snapshot_xmin(pg_current_snapshot()))) AS due
        LEFT JOIN unnest(CAST(:projects AS text[]), CAST(:counts AS int[])) AS busy (project, count)
            USING (project)
        WHERE place + coalesce(busy.count, 0) <= :of_one_project
        ORDER BY due.held_until LIMIT :limit)
    RETURNING {_COLUMNS}, held_until, CAST(cursor_xid AS text), cursor_seq
""")  # noqa: S608 - a constant


def hold_with_news(
    session: Session,
    *,
    seconds: float,
    limit: int,
    of_one_project: int,
    under_way: Mapping[str, int],
) -> list[Held]:
    """
    Endpoints that have events to get, each to one caller only.

    Args:
        session: Of the role `spine`, which sees all projects.
        seconds: How long they are held.
        limit: So many at most.
        of_one_project: So many of one project at most, with those under way.
        under_way: Endpoints this process serves already, by project.
    """
    rows = session.execute(
        _HOLD,
        {
            "seconds": seconds,
            "limit": limit,
            "of_one_project": of_one_project,
            "projects": list(under_way),
            "counts": list(under_way.values()),
        },
    )
    return [
        Held(Endpoint(*columns), Cursor(int(xid), seq), until) for *columns, until, xid, seq in rows
    ]


def advance(session: Session, held: Held, cursor: Cursor) -> bool:
    """
    Everything up to *cursor* is done, and the last attempt was no failure.

    Returns:
        False when the endpoint is gone, was changed, or is held by somebody else by now.
    """
    moved = session.execute(
        text("""
            UPDATE delivery.webhook_endpoints
            SET cursor_xid = CAST(:xid AS xid8), cursor_seq = :seq,
                failures = 0, failing_since = NULL
            WHERE id = :id AND held_until = :until
              AND (cursor_xid, cursor_seq) = (CAST(:seen_xid AS xid8), :seen_seq) RETURNING 1
        """),
        {
            "id": held.endpoint.id,
            "until": held.until,
            "xid": str(cursor.xid),
            "seq": cursor.seq,
            "seen_xid": str(held.cursor.xid),
            "seen_seq": held.cursor.seq,
        },
    )
    return moved.one_or_none() is not None


def let_go(session: Session, held: Held, *, after_seconds: float = 0.0) -> None:
    """Nobody looks at the endpoint again before *after_seconds*, unless it was changed."""
    session.execute(
        text("""
            UPDATE delivery.webhook_endpoints
            SET held_until = clock_timestamp() + make_interval(secs => :after)
            WHERE id = :id AND held_until = :until
        """),
        {"id": held.endpoint.id, "until": held.until, "after": after_seconds},
    )


def count_failure(session: Session, held: Held, *, give_up_seconds: float) -> Endpoint | None:
    """
    One more failure in a row; after so long the endpoint is disabled.

    Returns:
        None when it is gone, was changed, or is held by somebody else by now.
    """
    row = session.execute(
        text(f"""
            UPDATE delivery.webhook_endpoints
            SET failures = failures + 1, failing_since = coalesce(failing_since, now()),
                disabled_at = CASE
                    WHEN failing_since < now() - make_interval(secs => :give_up) THEN now() END
            WHERE id = :id AND held_until = :until RETURNING {_COLUMNS}
        """),  # noqa: S608 - a constant
        {"id": held.endpoint.id, "until": held.until, "give_up": give_up_seconds},
    ).one_or_none()
    return None if row is None else Endpoint(*row)


def record_attempt(session: Session, endpoint: Endpoint, attempt: Attempt) -> None:
    """Into the log, unless the endpoint is gone."""
    session.execute(
        text("""
            INSERT INTO delivery.webhook_attempts
                (project, endpoint_id, event_id, event_type, status, answer, error, milliseconds)
            SELECT project, id, :event_id, :event_type, :status, :answer, :error, :milliseconds
            FROM delivery.webhook_endpoints WHERE id = :endpoint_id FOR KEY SHARE
        """),
        {
            "endpoint_id": endpoint.id,
            "event_id": attempt.event_id,
            "event_type": attempt.event_type,
            "status": attempt.status,
            "answer": attempt.answer,
            "error": attempt.error,
            "milliseconds": attempt.milliseconds,
        },
    )


def is_registered(session: Session, project: str, model_id: str) -> bool:
    """Whether a model can be asked for by name."""
    return bool(
        session.execute(
            text("""
                SELECT EXISTS (SELECT FROM releases.models_v1
                               WHERE project = :project AND model_id = :model_id)
            """),
            {"project": project, "model_id": model_id},
        ).scalar_one()
    )


def forget_attempts(session: Session, days: float, limit: int) -> int:
    """Forget attempts older than *days*, at most *limit*; how many there were."""
    gone = session.execute(
        text("""
            WITH gone AS (
                DELETE FROM delivery.webhook_attempts WHERE seq IN (
                    SELECT seq FROM delivery.webhook_attempts
                    WHERE created_at < now() - make_interval(secs => :seconds) LIMIT :limit)
                RETURNING 1)
            SELECT count(*) FROM gone
        """),
        {"seconds": days * 86_400, "limit": limit},
    )
    return int(gone.scalar_one())
