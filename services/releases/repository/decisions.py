"""Decisions about releases: appended, never changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from services.releases.repository.releases import ReleaseRow
from shared.db import UnitOfWork


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """A decision with the numbers it rests on and the feed positions they come from."""

    seq: int
    verdict: str
    share: float
    reason: str
    policy_version: int
    evidence: dict[str, object] | None
    outcomes_cursor: str | None
    records_cursor: str | None
    actor: str
    created_at: datetime


def append(
    uow: UnitOfWork,
    release: ReleaseRow,
    verdict: str,
    *,
    share: float,
    reason: str,
    evidence: Mapping[str, object] | None = None,
) -> None:
    """Record what was decided, from the release's cursors as *release* has them."""
    uow.session.execute(
        text("""
            INSERT INTO releases.decisions
                (project, release_id, verdict, share, reason, policy_version, evidence,
                 outcomes_cursor, records_cursor, actor)
            VALUES (:project, :release_id, :verdict, :share, :reason, :policy_version,
                    CAST(:evidence AS jsonb), :outcomes_cursor, :records_cursor, :actor)
        """),
        {
            "project": uow.project,
            "release_id": release.release_id,
            "verdict": verdict,
            "share": share,
            "reason": reason,
            "policy_version": release.policy_version,
            "evidence": None if evidence is None else json.dumps(evidence),
            "outcomes_cursor": release.outcomes_cursor,
            "records_cursor": release.records_cursor,
            "actor": uow.context.actor,
        },
    )


def list_all(uow: UnitOfWork, release_id: str) -> list[DecisionRow]:
    """All decisions about a release, oldest first."""
    rows = uow.session.execute(
        text("""
            SELECT seq, verdict, share, reason, policy_version, evidence, outcomes_cursor,
                   records_cursor, actor, created_at
            FROM releases.decisions WHERE release_id = :release_id ORDER BY seq
        """),
        {"release_id": release_id},
    )
    return [DecisionRow(*row) for row in rows]


def list_ramps(uow: UnitOfWork, release_id: str) -> list[DecisionRow]:
    """Those that gave a canary its shares, in order of time."""
    return [row for row in list_all(uow, release_id) if row.verdict in {"started", "ramped"}]
