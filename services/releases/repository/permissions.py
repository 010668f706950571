"""Which other projects may use a model of this one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from shared.db import UnitOfWork


@dataclass(frozen=True, slots=True)
class PermissionRow:
    """
    Attributes:
        grantee: The project that may use the model.
    """

    id: str
    model_id: str
    grantee: str
    created_at: datetime


_COLUMNS = "id, model_id, grantee, created_at"


def insert(uow: UnitOfWork, permission_id: str, model_id: str, grantee: str) -> bool:
    """Whether it is new; a project that may use the model already keeps its permission."""
    row = uow.session.execute(
        text("""
            INSERT INTO releases.permissions (id, project, model_id, grantee, created_by)
            VALUES (:id, :project, :model_id, :grantee, :actor)
            ON CONFLICT DO NOTHING RETURNING id
        """),
        {
            "id": permission_id,
            "project": uow.project,
            "model_id": model_id,
            "grantee": grantee,
            "actor": uow.context.actor,
        },
    ).one_or_none()
    return row is not None


def find_all(uow: UnitOfWork, model_id: str, grantees: list[str]) -> list[PermissionRow]:
    """Those of *grantees*, oldest first."""
    rows = uow.session.execute(
        text(f"""
            SELECT {_COLUMNS} FROM releases.permissions
            WHERE model_id = :model_id AND grantee = ANY(:grantees) ORDER BY id
        """),  # noqa: S608 - a constant
        {"model_id": model_id, "grantees": grantees},
    )
    return [PermissionRow(*row) for row in rows]


def list_page(
    uow: UnitOfWork,
    model_id: str,
    *,
    after: str | None,
    limit: int,
    newest_first: bool,
    grantee: str | None,
) -> list[PermissionRow]:
    """At most `limit + 1` permissions of a model behind the one *after*."""
    sign, order = ("<", "DESC") if newest_first else (">", "ASC")
    rows = uow.session.execute(
        text(f"""
            SELECT {_COLUMNS} FROM releases.permissions
            WHERE model_id = :model_id
              AND (CAST(:after AS text) IS NULL OR id {sign} :after)
              AND (CAST(:grantee AS text) IS NULL OR grantee = :grantee)
            ORDER BY id {order} LIMIT :limit
        """),  # noqa: S608 - constants
        {"model_id": model_id, "after": after, "grantee": grantee, "limit": limit + 1},
    )
    return [PermissionRow(*row) for row in rows]


def delete(uow: UnitOfWork, model_id: str, permission_id: str) -> str | None:
    """The project that may not use the model any more; None when there was no such permission."""
    return uow.session.execute(
        text("""
            DELETE FROM releases.permissions WHERE model_id = :model_id AND id = :id
            RETURNING grantee
        """),
        {"model_id": model_id, "id": permission_id},
    ).scalar_one_or_none()
