"""Reading the audit log, and erasing what it only commits to."""

from __future__ import annotations

from uuid import UUID

from services.governance import repository
from services.governance.repository import Entry, Filter, Order
from shared.db import UnitOfWork
from shared.errors import Invalid, Missing


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
    entry_id = _entry_id(after) if after else None
    position = repository.find_position(uow.session, entry_id) if entry_id else None
    if after and position is None:
        raise Invalid(
            f"There is no audit entry {after} to go on after; use the last_id of a page.",
            code="unknown_cursor",
            param="after",
        )
    return repository.list_entries(
        uow.session, wanted, after=position, order=order, limit=limit + 1
    )


def erase_personal(uow: UnitOfWork, entry_id: str) -> list[str]:
    """
    Erase what an entry commits to: salts and values. The entry stays, and stays verifiable.

    Returns:
        Names of what was erased; none when it was erased before.

    Raises:
        Missing: The project has no such entry.
    """
    found = _entry_id(entry_id)
    if found is None or repository.find_position(uow.session, found) is None:
        raise Missing(f"This project has no audit entry {entry_id}.", code="audit_entry_not_found")
    names = repository.delete_disclosures(uow.session, found)
    if names:
        uow.audit("audit_entry.erased", entry_id, facts={"names": names})
    return names


def _entry_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
