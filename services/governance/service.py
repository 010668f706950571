"""Reading the audit log."""

from __future__ import annotations

from services.governance import repository
from services.governance.repository import Entry, Filter, Order
from shared.db import UnitOfWork
from shared.errors import Invalid


def list_entries(
    uow: UnitOfWork, wanted: Filter, *, after: str | None, order: Order, limit: int
) -> list[Entry]:
    """
    One page of the project's audit entries and one more.

    Args:
        uow: Of the project.
        wanted: Which entries.
        after: Id of the entry before the page; None begins at the beginning of *order*.
        order: `desc` is newest first.
        limit: Page size.

    Raises:
        Invalid: *after* is no entry of this project.
    """
    position = repository.find_position(uow.session, after) if after else None
    if after and position is None:
        raise Invalid(
            f"There is no audit entry {after} to go on after; use the last_id of a page.",
            code="unknown_cursor",
            param="after",
        )
    return repository.list_entries(
        uow.session, wanted, after=position, order=order, limit=limit + 1
    )
