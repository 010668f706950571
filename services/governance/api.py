"""Routes of the audit log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from services.governance import service
from services.governance.repository import Filter, Order
from services.governance.schemas import AuditEntry
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
