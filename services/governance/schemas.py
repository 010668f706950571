"""HTTP shape of audit entries."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel

from services.governance.repository import Entry


class AuditEntry(BaseModel):
    """Who did what to which thing, when and why. `created_at` is in Unix seconds."""

    id: str
    object: Literal["audit_entry"] = "audit_entry"
    created_at: int
    actor: str
    action: str
    subject: str
    reason: str
    facts: dict[str, Any]
    correlation_id: str
    causation_id: str

    @classmethod
    def of(cls, entry: Entry) -> Self:
        return cls(
            id=entry.id,
            created_at=int(entry.at.timestamp()),
            actor=entry.actor,
            action=entry.action,
            subject=entry.subject,
            reason=entry.reason,
            facts=entry.facts,
            correlation_id=entry.correlation_id,
            causation_id=entry.causation_id,
        )
