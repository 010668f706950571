"""Statements on the sealed logs: leaves and checkpoints, one log per project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from shared.audit.checkpoint import Checkpoint
from shared.audit.entries import COLUMNS
from shared.audit.tree import EMPTY_ROOT, Edge
from shared.cursor import Cursor

_SEALER_LOCK = 7_316_004

# Projects are found by skipping through the index, so that a long log costs nothing.
_PROJECTS = """
    WITH RECURSIVE projects AS (
        SELECT min(project) AS project FROM spine.audit_entries
        UNION ALL
        SELECT (SELECT min(e.project) FROM spine.audit_entries AS e
                WHERE e.project > projects.project)
        FROM projects WHERE projects.project IS NOT NULL)
    SELECT project FROM projects WHERE project IS NOT NULL
"""
_WITH_NEWS = f"""
    SELECT p.project FROM ({_PROJECTS}) AS p
    LEFT JOIN LATERAL (
        SELECT read_xid, read_seq FROM spine.audit_checkpoints AS c
        WHERE c.project = p.project ORDER BY size DESC LIMIT 1) AS head ON true
    WHERE EXISTS (
        SELECT FROM spine.audit_entries AS e
        WHERE e.project = p.project AND e.xid < pg_snapshot_xmin(pg_current_snapshot())
          AND (e.xid, e.seq) > (coalesce(head.read_xid, '0'), coalesce(head.read_seq, 0)))
"""  # noqa: S608 - put together from constants


@dataclass(frozen=True, slots=True)
class Head:
    """
    How far a log is sealed.

    Attributes:
        size: Number of sealed entries.
        root: Of the tree over them.
        edge: Its right edge; see `tree.Edge`.
        read: Position of the last sealed entry.
        note: The newest signed checkpoint; None before the first.
    """

    size: int = 0
    root: bytes = EMPTY_ROOT
    edge: tuple[bytes, ...] = ()
    read: Cursor = Cursor()  # noqa: RUF009 - frozen
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Leaf:
    """The hash of an entry."""

    entry: str
    hash: bytes


@dataclass(frozen=True, slots=True)
class Signed:
    """A checkpoint to store, with what the next seal needs to go on from it."""

    checkpoint: Checkpoint
    edge: tuple[bytes, ...]
    read: Cursor
    note: str


def is_sealer(session: Session) -> bool:
    """Whether this transaction is the one that seals."""
    return bool(
        session.execute(
            text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _SEALER_LOCK}
        ).scalar_one()
    )


def list_projects(session: Session, *, with_news: bool) -> list[str]:
    """Projects with entries, or only those with entries that can be sealed now."""
    return list(session.execute(text(_WITH_NEWS if with_news else _PROJECTS)).scalars())


def read_head(session: Session, project: str) -> Head:
    row = session.execute(
        text("""
            SELECT size, root, edge, CAST(read_xid AS text), read_seq, note
            FROM spine.audit_checkpoints WHERE project = :project ORDER BY size DESC LIMIT 1
        """),
        {"project": project},
    ).one_or_none()
    if row is None:
        return Head()
    return Head(row[0], row[1], tuple(row[2]), Cursor(int(row[3]), row[4]), row[5])


def root_at(session: Session, project: str, size: int) -> bytes | None:
    """The root signed at *size*; None when nothing was signed there."""
    return session.execute(
        text("SELECT root FROM spine.audit_checkpoints WHERE project = :project AND size = :size"),
        {"project": project, "size": size},
    ).scalar_one_or_none()


def oldest_running(session: Session) -> int:
    """The transaction below which everything is committed or gone."""
    value = session.execute(
        text("SELECT CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text)")
    ).scalar_one()
    return int(value)


def read_unsealed(
    session: Session, project: str, after: Cursor, *, limit: int
) -> Sequence[Row[Any]]:
    """The next entries behind *after* that no running transaction can slip in between."""
    return session.execute(
        text(f"""
            SELECT CAST(e.xid AS text) AS xid, e.seq, {COLUMNS} FROM spine.audit_entries AS e
            WHERE e.project = :project
              AND (e.xid, e.seq) > (CAST(CAST(:xid AS text) AS xid8), :seq)
              AND e.xid < pg_snapshot_xmin(pg_current_snapshot())
            ORDER BY e.xid, e.seq LIMIT :limit
        """),  # noqa: S608 - the columns are a constant
        {"project": project, "xid": str(after.xid), "seq": after.seq, "limit": limit},
    ).all()


def insert_leaves(session: Session, project: str, first: int, leaves: Sequence[Leaf]) -> None:
    """Store *leaves* under the numbers from *first* on."""
    # One value of each kind: arrays of thousands would cost more than their hashes did.
    session.execute(
        text("""
            INSERT INTO spine.audit_leaves (project, seq, entry, hash)
            SELECT :project, :first + n - 1, CAST(entry AS uuid),
                   substring(CAST(:hashes AS bytea) FROM CAST(n - 1 AS int) * 32 + 1 FOR 32)
            FROM unnest(string_to_array(:entries, ',')) WITH ORDINALITY AS l (entry, n)
        """),
        {
            "project": project,
            "first": first,
            "entries": ",".join(leaf.entry for leaf in leaves),
            "hashes": b"".join(leaf.hash for leaf in leaves),
        },
    )


def insert_checkpoints(
    session: Session, project: str, key: str, checkpoints: Sequence[Signed]
) -> None:
    session.execute(
        text("""
            INSERT INTO spine.audit_checkpoints
                (project, size, root, edge, read_xid, read_seq, note, key)
            VALUES (:project, :size, :root, :edge, CAST(CAST(:xid AS text) AS xid8), :seq,
                    :note, :key)
        """),
        [
            {
                "project": project,
                "size": one.checkpoint.size,
                "root": one.checkpoint.root,
                "edge": list(one.edge),
                "xid": str(one.read.xid),
                "seq": one.read.seq,
                "note": one.note,
                "key": key,
            }
            for one in checkpoints
        ],
    )


def edge_of(head: Head) -> Edge:
    return Edge(head.size, list(head.edge))
