"""Workloads, their names, and the versions of their policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from shared.db import UnitOfWork
from shared.errors import Conflict, Missing
from shared.policy import Policy


@dataclass(frozen=True, slots=True)
class WorkloadRow:
    """A workload with its current policy."""

    workload_id: str
    name: str
    aliases: tuple[str, ...]
    base_model: str
    policy_version: int
    policy: Policy
    created_at: datetime


_SELECT = """
    SELECT v.workload_id, v.name, v.aliases, v.base_model, v.policy_version, v.policy, w.created_at
    FROM workloads.workloads_v1 v JOIN workloads.workloads w USING (project, workload_id)
"""


def insert(uow: UnitOfWork, *, workload_id: str, name: str, base_model: str) -> None:
    uow.session.execute(
        text("""
            INSERT INTO workloads.workloads (project, workload_id, name, base_model)
            VALUES (:project, :workload_id, :name, :base_model)
        """),
        {
            "project": uow.project,
            "workload_id": workload_id,
            "name": name,
            "base_model": base_model,
        },
    )


def claim_alias(uow: UnitOfWork, workload_id: str, alias: str) -> bool:
    """Whether *alias* was free in the project and now means this workload."""
    row = uow.session.execute(
        text("""
            INSERT INTO workloads.aliases (project, alias, workload_id)
            VALUES (:project, :alias, :workload_id) ON CONFLICT DO NOTHING RETURNING alias
        """),
        {"project": uow.project, "alias": alias, "workload_id": workload_id},
    ).one_or_none()
    return row is not None


def lock(uow: UnitOfWork, workload_id: str) -> None:
    """Let changes of a workload's names pass one by one."""
    uow.session.execute(
        text("SELECT FROM workloads.workloads WHERE workload_id = :workload_id FOR UPDATE"),
        {"workload_id": workload_id},
    )


def release_alias(uow: UnitOfWork, workload_id: str, alias: str) -> None:
    """Nothing of this name is the workload's any more."""
    uow.session.execute(
        text("""
            DELETE FROM workloads.aliases WHERE workload_id = :workload_id AND alias = :alias
        """),
        {"workload_id": workload_id, "alias": alias},
    )


def insert_policy(uow: UnitOfWork, workload_id: str, version: int, policy: Policy) -> None:
    """
    Raises:
        Conflict: Somebody else wrote this version at the same time.
    """
    row = uow.session.execute(
        text("""
            INSERT INTO workloads.policies (project, workload_id, version, policy, created_by)
            VALUES (:project, :workload_id, :version, CAST(:policy AS jsonb), :actor)
            ON CONFLICT DO NOTHING RETURNING version
        """),
        {
            "project": uow.project,
            "workload_id": workload_id,
            "version": version,
            "policy": policy.model_dump_json(),
            "actor": uow.context.actor,
        },
    ).one_or_none()
    if row is None:
        raise Conflict(
            "The policy was replaced by somebody else just now; read it and decide again.",
            code="policy_conflict",
        )


def load(uow: UnitOfWork, name: str) -> WorkloadRow:
    """
    The workload with this id, name or alias.

    Raises:
        Missing: There is none in this project.
    """
    row = uow.session.execute(
        text(
            _SELECT
            + """ WHERE v.workload_id = :name OR EXISTS (
                SELECT FROM workloads.aliases a WHERE a.project = v.project
                AND a.workload_id = v.workload_id AND a.alias = :name)"""
        ),
        {"name": name},
    ).one_or_none()
    if row is None:
        raise Missing(f"There is no workload '{name}'.", code="workload_not_found")
    return _row(row)


def list_newest(uow: UnitOfWork, after: str | None, limit: int) -> list[WorkloadRow]:
    """At most `limit + 1` workloads, newest first, older than *after*."""
    rows = uow.session.execute(
        text(
            _SELECT
            + """ WHERE CAST(:after AS text) IS NULL OR v.workload_id < :after
                ORDER BY v.workload_id DESC LIMIT :limit"""
        ),
        {"after": after, "limit": limit + 1},
    )
    return [_row(row) for row in rows]


def load_policy(uow: UnitOfWork, workload_id: str, version: int) -> Policy:
    """The policy as it was in *version*; versions are never changed."""
    found = uow.session.execute(
        text("""
            SELECT policy FROM workloads.policies
            WHERE workload_id = :workload_id AND version = :version
        """),
        {"workload_id": workload_id, "version": version},
    ).scalar_one()
    return Policy.model_validate(found)


def lock_corrections(uow: UnitOfWork, workload_id: str) -> int:
    """
    Corrections waiting, as last heard; locks the workload until the end of the transaction.

    The lock is the one for all that happens to a workload's cycles, so a cycle that opens and a
    correction that arrives just then see each other.

    Raises:
        Missing: There is no such workload.
    """
    waiting = uow.session.execute(
        text("""
            SELECT corrections_waiting FROM workloads.workloads
            WHERE workload_id = :workload_id FOR UPDATE
        """),
        {"workload_id": workload_id},
    ).scalar_one_or_none()
    if waiting is None:
        raise Missing(f"There is no workload '{workload_id}'.", code="workload_not_found")
    return int(waiting)


def set_corrections(uow: UnitOfWork, workload_id: str, waiting: int) -> None:
    uow.session.execute(
        text("""
            UPDATE workloads.workloads SET corrections_waiting = :waiting
            WHERE workload_id = :workload_id
        """),
        {"workload_id": workload_id, "waiting": waiting},
    )


def _row(row: Sequence[object]) -> WorkloadRow:
    workload_id, name, aliases, base_model, version, policy, created_at = row
    assert isinstance(aliases, list)
    assert isinstance(version, int)
    assert isinstance(created_at, datetime)
    return WorkloadRow(
        workload_id=str(workload_id),
        name=str(name),
        aliases=tuple(aliases),
        base_model=str(base_model),
        policy_version=version,
        policy=Policy.model_validate(policy),
        created_at=created_at,
    )
