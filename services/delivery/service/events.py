"""Reading public events."""

from __future__ import annotations

from typing import Any

from services.delivery.repository import events
from shared.contracts.catalogue import BY_TYPE
from shared.cursor import Cursor
from shared.db import UnitOfWork
from shared.errors import Invalid
from shared.spine import feeds

_OF_TYPES = "CAST(:types AS text[]) = '{}' OR type = ANY(CAST(:types AS text[]))"


def list_events(
    uow: UnitOfWork, *, after: str | None, types: list[str], limit: int
) -> list[dict[str, Any]]:
    """
    Envelopes of public events, oldest first, and one more than *limit*.

    An event shows up once every transaction before it has ended, so a reader misses none.

    Raises:
        Invalid: *after* is no event of this project, or a type is unknown.
    """
    check_types(types)
    start = events.find_position(uow.session, after) if after else Cursor()
    if start is None:
        raise Invalid(
            f"There is no event {after} to go on after.", code="unknown_cursor", param="after"
        )
    rows, _ = feeds.read(
        uow.session,
        "spine.events",
        start,
        limit=limit + 1,
        where=f"project = :project AND ({_OF_TYPES})",
        parameters={"project": uow.project, "types": types},
    )
    return [row.envelope for row in rows]


def check_types(types: list[str]) -> None:
    """
    Raises:
        Invalid: One of *types* is no public event.
    """
    public = sorted(name for name, message in BY_TYPE.items() if message.public)
    if unknown := sorted(set(types) - set(public)):
        raise Invalid(
            f"There is no public event {', '.join(unknown)}. There are: {', '.join(public)}.",
            code="unknown_event_type",
            param="types",
        )
