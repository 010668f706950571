"""Feeds: append-only tables that a reader folds exactly once, with a cursor of its own.

Rows are read in `(xid, seq)` order and only below the oldest running transaction, so that a
slow transaction cannot slip a row in behind the cursor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from shared.cursor import Cursor


def read(
    session: Session,
    view: str,
    cursor: Cursor,
    *,
    limit: int,
    where: str = "true",
    parameters: dict[str, Any] | None = None,
) -> tuple[Sequence[Row[Any]], Cursor]:
    """
    The next rows of a feed.

    Args:
        session: Sees the rows of its project only.
        view: `<schema>.<feed>_v<N>`, a constant of the reader; has columns `xid` and `seq`.
        cursor: Where the reader stopped.
        limit: Most rows returned.
        where: A constant condition on the view's columns.
        parameters: Values bound in *where*.

    Returns:
        The rows in order, and the cursor behind the last of them.
    """
    rows = session.execute(
        text(f"""
            SELECT * FROM {view}
            WHERE (xid, seq) > (CAST(CAST(:after_xid AS text) AS xid8), :after_seq)
              AND xid < pg_snapshot_xmin(pg_current_snapshot()) AND ({where})
            ORDER BY xid, seq LIMIT :limit
        """),  # noqa: S608 - view and condition are constants of the caller
        {
            "after_xid": str(cursor.xid),
            "after_seq": cursor.seq,
            "limit": limit,
            **(parameters or {}),
        },
    ).all()
    return rows, (Cursor(int(rows[-1].xid), int(rows[-1].seq)) if rows else cursor)
