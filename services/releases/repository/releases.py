"""Releases and the decisions about them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text

from services.releases.domain import ReleaseState
from shared.db import UnitOfWork
from shared.errors import Conflict, Missing


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRow:
    """
    Attributes:
        control_release: The live release it is compared with, and the way back from it.
        canary: State of the canary fold as JSON; None before it began.
        outcomes_start: Position in the feed of outcomes where the canary began; so for the others.
    """

    release_id: str
    workload_id: str
    model: str
    state: ReleaseState
    share: float
    salt: str
    policy_version: int
    evaluation_id: str | None
    override_reason: str | None
    cycle_id: str | None
    owner: str
    control_release: str | None
    control_model: str | None
    canary: dict[str, object] | None
    outcomes_start: str | None
    outcomes_cursor: str | None
    records_start: str | None
    records_cursor: str | None
    reason: str
    created_at: datetime
    started_at: datetime | None
    settled_at: datetime | None


_COLUMNS = tuple(field.name for field in fields(ReleaseRow))
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM releases.releases"  # noqa: S608 - field names


def insert(uow: UnitOfWork, row: Mapping[str, object]) -> bool:
    """Whether the release is new; its cycle may have one already.

    Args:
        uow: The transaction.
        row: release_id, workload_id, model, state, salt, policy_version, evaluation_id,
            override_reason, cycle_id, reason.
    """
    inserted = uow.session.execute(
        text("""
            INSERT INTO releases.releases
                (project, release_id, workload_id, model, state, share, salt, policy_version,
                 evaluation_id, override_reason, cycle_id, owner, reason,
                 started_at, settled_at)
            VALUES (:project, :release_id, :workload_id, :model, :state, :share, :salt,
                    :policy_version, :evaluation_id, :override_reason, :cycle_id, :owner, :reason,
                    CASE WHEN :state = 'live' THEN now() END,
                    CASE WHEN :state = 'live' THEN now() END)
            ON CONFLICT DO NOTHING RETURNING release_id
        """),
        {"project": uow.project, "owner": uow.context.actor, **row},
    ).one_or_none()
    return inserted is not None


def load(uow: UnitOfWork, release_id: str) -> ReleaseRow:
    """
    Raises:
        Missing: There is no such release in this project.
    """
    return _one(uow, "release_id = :id", release_id)


def load_locked(uow: UnitOfWork, release_id: str) -> ReleaseRow:
    """The release, locked until the end of the transaction; errors as in `load`."""
    return _one(uow, "release_id = :id FOR UPDATE", release_id)


def find_in_state(uow: UnitOfWork, workload_id: str, state: ReleaseState) -> ReleaseRow | None:
    """The oldest release of a workload in *state*."""
    row = uow.session.execute(
        text(
            f"{_SELECT} WHERE workload_id = :workload_id AND state = :state "
            "ORDER BY release_id LIMIT 1"
        ),
        {"workload_id": workload_id, "state": state},
    ).one_or_none()
    return None if row is None else _row(row)


def lock_workload(uow: UnitOfWork, workload_id: str) -> None:
    """Let the releases of a workload change one after the other, until this transaction ends."""
    uow.session.execute(
        text("SELECT pg_advisory_xact_lock(hashtext(:project), hashtext(:workload_id))"),
        {"project": uow.project, "workload_id": workload_id},
    )


def list_newest(
    uow: UnitOfWork, workload_id: str | None, after: str | None, limit: int
) -> list[ReleaseRow]:
    """At most `limit + 1` releases, newest first, older than *after*."""
    rows = uow.session.execute(
        text(
            _SELECT
            + """ WHERE (CAST(:workload_id AS text) IS NULL OR workload_id = :workload_id)
                AND (CAST(:after AS text) IS NULL OR release_id < :after)
                ORDER BY release_id DESC LIMIT :limit"""
        ),
        {"workload_id": workload_id, "after": after, "limit": limit + 1},
    )
    return [_row(row) for row in rows]


def begin_canary(
    uow: UnitOfWork,
    release: ReleaseRow,
    control: ReleaseRow,
    *,
    share: float,
    canary: Mapping[str, object],
    policy_version: int,
    position: str,
) -> None:
    """Put a gated release beside *control*; both feeds are read from *position* on.

    Raises:
        Conflict: It is not gated any more, or another canary of the workload was faster.
    """
    changed = uow.session.execute(
        text("""
            UPDATE releases.releases
            SET state = 'canary', share = :share, canary = CAST(:canary AS jsonb),
                policy_version = :policy_version, control_release = :control_release,
                control_model = :control_model, outcomes_start = :position,
                outcomes_cursor = :position, records_start = :position,
                records_cursor = :position, started_at = now()
            WHERE release_id = :release_id AND state = 'gated'
            RETURNING release_id
        """),
        {
            "release_id": release.release_id,
            "share": share,
            "canary": json.dumps(canary),
            "policy_version": policy_version,
            "control_release": control.release_id,
            "control_model": control.model,
            "position": position,
        },
    ).one_or_none()
    _require(changed, release.release_id)


def save_fold(
    uow: UnitOfWork,
    release_id: str,
    *,
    canary: Mapping[str, object],
    share: float,
    outcomes_cursor: str,
    records_cursor: str,
) -> None:
    """State, share and cursors of a canary, written together."""
    changed = uow.session.execute(
        text("""
            UPDATE releases.releases
            SET canary = CAST(:canary AS jsonb), share = :share,
                outcomes_cursor = :outcomes_cursor, records_cursor = :records_cursor
            WHERE release_id = :release_id AND state = 'canary'
            RETURNING release_id
        """),
        {
            "release_id": release_id,
            "canary": json.dumps(canary),
            "share": share,
            "outcomes_cursor": outcomes_cursor,
            "records_cursor": records_cursor,
        },
    ).one_or_none()
    _require(changed, release_id)


def change_state(
    uow: UnitOfWork, release: ReleaseRow, state: ReleaseState, *, share: float, reason: str
) -> None:
    """
    Move a release on from the state it was read in.

    Raises:
        Conflict: It is in another state by now.
    """
    changed = uow.session.execute(
        text("""
            UPDATE releases.releases
            SET state = :state, share = :share, reason = :reason, settled_at = now()
            WHERE release_id = :release_id AND state = :expected
            RETURNING release_id
        """),
        {
            "release_id": release.release_id,
            "state": state,
            "expected": release.state,
            "share": share,
            "reason": reason,
        },
    ).one_or_none()
    _require(changed, release.release_id)


def _require(changed: object, release_id: str) -> None:
    if changed is None:
        raise Conflict(
            f"Release {release_id} changed its state just now; read it and decide again.",
            code="release_state_conflict",
        )


def _one(uow: UnitOfWork, condition: str, release_id: str) -> ReleaseRow:
    row = uow.session.execute(
        text(f"{_SELECT} WHERE {condition}"), {"id": release_id}
    ).one_or_none()
    if row is None:
        raise Missing(f"There is no release '{release_id}'.", code="release_not_found")
    return _row(row)


def _row(row: Row[Any]) -> ReleaseRow:
    columns = dict(row._mapping)  # noqa: SLF001 - the documented way to columns by name
    return ReleaseRow(**{**columns, "state": ReleaseState(columns["state"])})
