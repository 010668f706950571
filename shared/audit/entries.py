"""Audit entries, written in the transaction of what they record, without a lock."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from shared.ids import uuid7

if TYPE_CHECKING:
    from shared.db import UnitOfWork


def append(
    uow: UnitOfWork, action: str, subject: str, *, reason: str, facts: dict[str, Any]
) -> None:
    """Append one entry; see `UnitOfWork.audit` for the meaning of the parameters."""
    uow.session.execute(
        text("""
            INSERT INTO spine.audit_entries
                (id, project, actor, action, subject, reason, facts, correlation_id, causation_id)
            VALUES (:id, :project, :actor, :action, :subject, :reason, CAST(:facts AS jsonb),
                    :correlation_id, :causation_id)
        """),
        {
            "id": uuid7(),
            "project": uow.project,
            "actor": uow.context.actor,
            "action": action,
            "subject": subject,
            "reason": reason,
            "facts": json.dumps(facts),
            "correlation_id": uow.context.correlation_id,
            "causation_id": uow.context.causation_id,
        },
    )
