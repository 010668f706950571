"""Records, contents and stored completions, as they come from the spool."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from typing import Any, cast

import psycopg
from sqlalchemy import text
from sqlalchemy.orm import Session

from services.inference.records import Line
from shared.errors import Invalid, Unavailable

_COLUMNS = (
    "project, request, inference_id, workload_id, assigned_release, arm, model, status, error_code,"
    " fallback, cached, latency_ms, input_tokens, output_tokens, unit_hash, door, boot, counter,"
    " created_at"
)
_CONTENT_COLUMNS = "project, inference_id, workload_id, messages, answer, created_at"
_STORED_COLUMNS = "project, request, asked_model, model, messages, completion, metadata, created_at"


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
        stored = [_stored_row(line) for line in lines if line.stored is not None]
        try:
            _copy(session, "records", _COLUMNS, [_record_row(line) for line in lines])
            if contents:
                _copy(session, "contents", _CONTENT_COLUMNS, contents)
            if stored:
                _copy(session, "stored_completions", _STORED_COLUMNS, stored)
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


def _stored_row(line: Line) -> tuple[object, ...]:
    assert line.stored is not None
    metadata = line.stored.metadata
    return (
        line.record.project,
        line.record.request,
        line.stored.asked_model,
        line.record.model,
        json.dumps(line.stored.messages),
        json.dumps(line.stored.completion),
        None if metadata is None else json.dumps(metadata),
        line.at,
    )
