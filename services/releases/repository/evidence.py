"""The feeds that a canary is judged by, and the units it has seen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import text

from services.releases.domain import AnsweredRequest
from services.releases.repository.releases import ReleaseRow
from shared.cursor import Cursor
from shared.db import UnitOfWork
from shared.receipts import request_time
from shared.spine import feeds

_BATCH = 500
_OF_THE_ARMS = """workload_id = :workload_id AND assigned_release IN (:canary, :control)
    AND (xid, seq) <= (CAST(CAST(:until_xid AS text) AS xid8), :until_seq)"""
# The largest position there is: an xid8 has 64 bits, a row number 63.
END = Cursor(2**64 - 1, 2**63 - 1)


def position_now(uow: UnitOfWork) -> Cursor:
    """Before all rows of transactions that begin later than this one."""
    xid = uow.session.execute(text("SELECT CAST(pg_current_xact_id() AS text)")).scalar_one()
    return Cursor(int(xid), 0)


def read_labels(
    uow: UnitOfWork, release: ReleaseRow, after: Cursor, until: Cursor = END
) -> tuple[list[tuple[str, int]], Cursor, bool]:
    """
    The next labels of the canary's period, as (release assigned, 0 or 1).

    A label of a request from before the canary compares times of day and not models: it is left
    out, on both sides.

    Returns:
        The labels in order, the cursor behind them, and whether more may follow.
    """
    rows, cursor = feeds.read(
        uow.session,
        "feedback.outcomes_v1",
        after,
        limit=_BATCH,
        where=_OF_THE_ARMS,
        parameters=_parameters(release, until),
    )
    assert release.started_at is not None  # a canary has begun
    labels = [
        (row.assigned_release, row.success)
        for row in rows
        if request_time(row.inference_id) >= release.started_at
    ]
    return labels, cursor, len(rows) == _BATCH


def read_records(
    uow: UnitOfWork, release: ReleaseRow, after: Cursor, until: Cursor = END
) -> tuple[list[AnsweredRequest], Cursor, bool]:
    """The next records of the canary's period; the result is as in `read_labels`."""
    rows, cursor = feeds.read(
        uow.session,
        "inference.records_v1",
        after,
        limit=_BATCH,
        where=_OF_THE_ARMS,
        parameters=_parameters(release, until),
    )
    assert release.started_at is not None  # a canary has begun
    requests = [
        AnsweredRequest(
            release=row.assigned_release,
            is_error=row.status == "error",
            is_fallback=row.fallback,
            is_cached=row.cached,
            is_batch=row.door == "batch",
            latency_ms=row.latency_ms,
            output_tokens=row.output_tokens,
            unit=row.unit_hash,
            at=row.created_at,
        )
        for row in rows
        if row.created_at >= release.started_at
    ]
    return requests, cursor, len(rows) == _BATCH


def remember_units(uow: UnitOfWork, release_id: str, units: Iterable[str]) -> set[str]:
    """Those of *units* that the canary sees for the first time; they are remembered."""
    rows = uow.session.execute(
        text("""
            INSERT INTO releases.seen_units (project, release_id, unit_hash)
            SELECT DISTINCT :project, :release_id, unit FROM unnest(CAST(:units AS text[])) AS unit
            ON CONFLICT DO NOTHING RETURNING unit_hash
        """),
        {"project": uow.project, "release_id": release_id, "units": list(units)},
    )
    return {row.unit_hash for row in rows}


def forget_units(uow: UnitOfWork, release_id: str) -> None:
    """The canary is over; a recomputation counts anew."""
    uow.session.execute(
        text("DELETE FROM releases.seen_units WHERE release_id = :release_id"),
        {"release_id": release_id},
    )


def _parameters(release: ReleaseRow, until: Cursor) -> dict[str, Any]:
    return {
        "workload_id": release.workload_id,
        "canary": release.release_id,
        "control": release.control_release,
        "until_xid": str(until.xid),
        "until_seq": until.seq,
    }
