"""Routes of the audit log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from services.governance import repository, service
from services.governance.repository import Filter, Order
from services.governance.schemas import AuditCheckpoint, AuditEntry, Erased, SealedEntry
from shared.http import Unit, authorised
from shared.keys import Caller
from shared.pages import Page, page_of

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])


@router.get("")
def index(
    caller: Annotated[Caller, authorised("audit:read")],
    uow: Unit,
    subject: str | None = None,
    action: Annotated[str | None, Query(description="Beginning, such as `release.`")] = None,
    actor: str | None = None,
    correlation_id: str | None = None,
    after: Annotated[str | None, Query(description="Id of the last entry read.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Annotated[Order, Query(description="`desc` is newest first.")] = "desc",
) -> Page[AuditEntry]:
    """Audit entries of the project, newest first unless asked otherwise."""
    wanted = Filter(subject, action, actor, correlation_id)
    entries = service.list_entries(uow, wanted, after=after, order=order, limit=limit)
    return page_of([AuditEntry.of(entry) for entry in entries], limit)


@router.get("/sealed")
def sealed(
    caller: Annotated[Caller, authorised("audit:read")],
    uow: Unit,
    after: Annotated[int, Query(ge=-1, description="`seq` of the last entry read.")] = -1,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Page[SealedEntry]:
    """The sealed log of the project from its beginning, in the order in which it was sealed."""
    rows = repository.list_sealed(uow.session, after=after, limit=limit + 1)
    return page_of([SealedEntry.of(row) for row in rows], limit)


@router.get("/checkpoints")
def checkpoints(
    caller: Annotated[Caller, authorised("audit:read")],
    uow: Unit,
    after: Annotated[int | None, Query(ge=0, description="`size` of the last one read.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 20,
    order: Annotated[Order, Query(description="`desc` is newest first.")] = "desc",
) -> Page[AuditCheckpoint]:
    """Signed checkpoints of the project's log, newest first unless asked otherwise."""
    rows = repository.list_checkpoints(uow.session, after=after, order=order, limit=limit + 1)
    return page_of([AuditCheckpoint.of(row) for row in rows], limit)


@router.delete("/{entry_id}/personal")
def erase(entry_id: str, caller: Annotated[Caller, authorised("audit:write")], uow: Unit) -> Erased:
    """Erase the personal data an entry commits to. The entry stays, and stays verifiable."""
    return Erased(id=entry_id, names=service.erase_personal(uow, entry_id))
