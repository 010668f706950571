"""All SQL of inference: snapshots, records, contents, answers of the queue door."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, cast

import psycopg
from sqlalchemy import text
from sqlalchemy.orm import Session

from services.inference.domain.routing import Name, Route, Served
from services.inference.records import Line
from shared.errors import Invalid, Unavailable
from shared.ids import Digest, Project

ROUTES_QUERY = text("""
    SELECT project, workload_id, name, aliases, live_release, live_model, canary_release,
           canary_model, canary_share, salt, fallback_model, capture_content
    FROM releases.routes_v1
""")
# A project's own models, and those that others let it use.
MODELS_QUERY = text("""
    SELECT project, project AS owner, model_id, base, gguf_digest, peft_digest
    FROM releases.models_v1 WHERE deleted_at IS NULL
    UNION ALL
    SELECT project, owner, model_id, base, gguf_digest, peft_digest
    FROM releases.granted_models_v1
""")


def routes_from_rows(rows: list[tuple[object, ...]]) -> dict[Name, Route]:
    """The routes snapshot from the rows of ROUTES_QUERY; a name wins over another's alias."""
    by_alias: dict[Name, Route] = {}
    by_name: dict[Name, Route] = {}
    for row in cast("list[tuple[Any, ...]]", rows):
        project, workload_id, name, aliases, *rest = row
        live_release, live_model, canary_release, canary_model, share, salt, *last = rest
        fallback_model, capture_content = last
        route = Route(
            workload_id=workload_id,
            live_release=live_release,
            live_model=live_model,
            canary_release=canary_release,
            canary_model=canary_model,
            canary_share=share or 0.0,
            salt=salt or "",
            fallback_model=fallback_model,
            capture_content=capture_content,
        )
        by_name[Project(project), name] = route
        by_alias.update({(Project(project), alias): route for alias in aliases})
    return by_alias | by_name


def models_from_rows(rows: list[tuple[object, ...]]) -> dict[Name, Served]:
    """The models snapshot from the rows of MODELS_QUERY."""
    return {
        (Project(project), model): Served(
            project=Project(owner),
            model=model,
            base=base,
            gguf_digest=Digest(gguf) if gguf else None,
            peft_digest=Digest(peft) if peft else None,
        )
        for project, owner, model, base, gguf, peft in cast("list[tuple[Any, ...]]", rows)
    }


_COLUMNS = (
    "project, request, inference_id, workload_id, assigned_release, arm, model, status, error_code,"
    " fallback, cached, latency_ms, input_tokens, output_tokens, unit_hash, door, boot, counter,"
    " created_at"
)
_CONTENT_COLUMNS = "project, inference_id, workload_id, messages, answer, created_at"


class RecordTable:
    """Stores lines of the spool; knows which days have a partition."""

    def __init__(self) -> None:
        self._days: set[date] = set()

    def store(self, session: Session, lines: Sequence[Line]) -> None:
        """
        Store *lines*, those already there excepted. Runs as the role `spine`.

        Raises:
            Invalid: Postgres refuses one of them for good.
            Unavailable: Postgres does not answer.
        """
        for day in {line.at.date() for line in lines} - self._days:
            session.execute(text("SELECT inference.ensure_day(:day)"), {"day": day})
            self._days.add(day)
        contents = [_content_row(line) for line in lines if line.content is not None]
        try:
            _copy(session, "records", _COLUMNS, [_record_row(line) for line in lines])
            if contents:
                _copy(session, "contents", _CONTENT_COLUMNS, contents)
        except psycopg.OperationalError as error:
            raise Unavailable(
                "The database broke off while records were stored; they are sent again.",
                code="database_unavailable",
            ) from error
        except psycopg.Error as error:
            raise Invalid(f"Postgres refuses a record: {error}.", code="record_refused") from error


def _copy(session: Session, table: str, columns: str, rows: Sequence[tuple[object, ...]]) -> None:
    connection = cast("psycopg.Connection[Any]", session.connection().connection.driver_connection)
    with connection.cursor() as cursor:
        # No sequence and no check is copied; the table itself looks at the rows.
        cursor.execute(
            f"CREATE TEMP TABLE incoming_{table} ON COMMIT DROP AS "  # noqa: S608 - constants
            f"SELECT {columns} FROM inference.{table} LIMIT 0"
        )
        with cursor.copy(f"COPY incoming_{table} ({columns}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        cursor.execute(
            f"INSERT INTO inference.{table} ({columns}) "  # noqa: S608 - constants
            f"SELECT {columns} FROM incoming_{table} ON CONFLICT DO NOTHING"
        )


def _record_row(line: Line) -> tuple[object, ...]:
    each = line.record
    return (
        each.project,
        each.request,
        each.inference_id,
        each.workload_id,
        each.assigned_release,
        each.arm,
        each.model,
        each.status,
        each.error_code,
        each.fallback,
        each.cached,
        each.latency_ms,
        each.input_tokens,
        each.output_tokens,
        each.unit_hash,
        each.door,
        line.boot,
        line.counter,
        line.at,
    )


def _content_row(line: Line) -> tuple[object, ...]:
    assert line.content is not None
    return (
        line.record.project,
        line.record.inference_id,
        line.record.workload_id,
        json.dumps(line.content.messages),
        line.content.answer,
        line.at,
    )


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What the queue door answered to an id; `fingerprint` says to which question."""

    fingerprint: str
    answer: dict[str, Any]


def find_door_answer(session: Session, id: str) -> StoredAnswer | None:  # noqa: A002 - column name
    """The stored answer to *id* in the project of the session, if there is one."""
    row = session.execute(
        text("SELECT fingerprint, answer FROM inference.door_answers WHERE id = :id"), {"id": id}
    ).one_or_none()
    return None if row is None else StoredAnswer(row.fingerprint, row.answer)


def record_door_answer(
    session: Session,
    project: Project,
    id: str,  # noqa: A002 - column name
    answer: StoredAnswer,
) -> StoredAnswer:
    """Store the answer to *id*; the answer that was first is returned."""
    session.execute(
        text("""
            INSERT INTO inference.door_answers (project, id, fingerprint, answer)
            VALUES (:project, :id, :fingerprint, CAST(:answer AS jsonb))
            ON CONFLICT DO NOTHING
        """),
        {
            "project": project,
            "id": id,
            "fingerprint": answer.fingerprint,
            "answer": json.dumps(answer.answer),
        },
    )
    return find_door_answer(session, id) or answer


def delete_old_door_answers(session: Session, hours: float) -> int:
    """Forget answers older than *hours*, of all projects (role `spine`); how many there were."""
    result = session.execute(
        text("""
            WITH gone AS (
                DELETE FROM inference.door_answers
                WHERE created_at < now() - make_interval(secs => :seconds) RETURNING 1)
            SELECT count(*) FROM gone
        """),
        {"seconds": hours * 3600},
    )
    return int(result.scalar_one())
