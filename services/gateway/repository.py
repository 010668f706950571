"""Statements on `gateway.projects` and `gateway.keys`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

_COLUMNS = "key_id, name, scopes, created_by, created_at, expires_at, revoked_at"


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key without anything secret."""

    key_id: str
    name: str
    scopes: list[str]
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def insert_project(session: Session, project: str) -> None:
    """Make the project unless it is there."""
    session.execute(
        text("INSERT INTO gateway.projects (project) VALUES (:project) ON CONFLICT DO NOTHING"),
        {"project": project},
    )


def insert_key(
    session: Session,
    project: str,
    *,
    key_id: str,
    name: str,
    mac: str,
    scopes: frozenset[str],
    created_by: str,
    expires_at: datetime | None,
    pepper: str | None = None,
) -> bool:
    """Store a key; False when its id is taken. Without *pepper* it is renewed when it is used."""
    stored = session.execute(
        text("""
            INSERT INTO gateway.keys
                (key_id, project, name, mac, scopes, created_by, expires_at, pepper)
            VALUES (:key_id, :project, :name, :mac, :scopes, :created_by, :expires_at, :pepper)
            ON CONFLICT (key_id) DO NOTHING RETURNING 1
        """),
        {
            "key_id": key_id,
            "project": project,
            "name": name,
            "mac": mac,
            "scopes": sorted(scopes),
            "created_by": created_by,
            "expires_at": expires_at,
            "pepper": pepper,
        },
    )
    return stored.one_or_none() is not None


def find_key(session: Session, key_id: str) -> KeyRow | None:
    """The key of this project with *key_id*."""
    row = session.execute(
        text(f"SELECT {_COLUMNS} FROM gateway.keys WHERE key_id = :key_id"),  # noqa: S608
        {"key_id": key_id},
    ).one_or_none()
    return None if row is None else KeyRow(*row)


def list_keys(session: Session, after: KeyRow | None, limit: int) -> list[KeyRow]:
    """Keys of this project, newest first, from the one behind *after*."""
    rows = session.execute(
        text(f"""
            SELECT {_COLUMNS} FROM gateway.keys
            WHERE CAST(:key_id AS text) IS NULL OR (created_at, key_id) < (:created_at, :key_id)
            ORDER BY created_at DESC, key_id DESC LIMIT :limit
        """),  # noqa: S608 - the columns are a constant of this module
        {
            "key_id": after and after.key_id,
            "created_at": after and after.created_at,
            "limit": limit,
        },
    )
    return [KeyRow(*row) for row in rows]


def revoke_key(session: Session, key_id: str) -> bool:
    """End a key now; False when it is unknown or revoked already."""
    revoked = session.execute(
        text("""
            UPDATE gateway.keys SET revoked_at = now()
            WHERE key_id = :key_id AND revoked_at IS NULL RETURNING 1
        """),
        {"key_id": key_id},
    )
    return revoked.one_or_none() is not None


def renew_key(session: Session, key_id: str, *, old_mac: str, mac: str, pepper: str) -> bool:
    """Replace what is stored of a key that holds; False when it is not *old_mac* any more."""
    renewed = session.execute(
        text("""
            UPDATE gateway.keys SET mac = :mac, pepper = :pepper
            WHERE key_id = :key_id AND mac = :old_mac AND revoked_at IS NULL
              AND pepper IS DISTINCT FROM :pepper
            RETURNING 1
        """),
        {"key_id": key_id, "old_mac": old_mac, "mac": mac, "pepper": pepper},
    )
    return renewed.one_or_none() is not None


def ping(session: Session) -> None:
    """
    Ask Postgres for an answer.

    Raises:
        Unavailable: There is none (raised where the unit of work was opened).
    """
    session.execute(text("SELECT 1"))
