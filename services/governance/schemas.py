"""HTTP shapes of the audit log."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel
from sqlalchemy import Row

from services.governance.repository import Entry
from shared.audit.entries import content


class AuditEntry(BaseModel):
    """
    Who did what to which thing, when and why. `created_at` is in Unix seconds.

    `commitments` are SHA-256 over salt and value of what can be erased; `personal` is what was not.
    """

    id: str
    object: Literal["audit_entry"] = "audit_entry"
    created_at: int
    actor: str
    action: str
    subject: str
    reason: str
    facts: dict[str, Any]
    commitments: dict[str, str]
    personal: dict[str, Any]
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
            commitments=entry.commitments,
            personal=entry.personal,
            correlation_id=entry.correlation_id,
            causation_id=entry.causation_id,
        )


class SealedEntry(BaseModel):
    """An entry's place in the sealed log. `leaf` is hexadecimal; `id` is `seq` for paging."""

    id: str
    object: Literal["sealed_audit_entry"] = "sealed_audit_entry"
    seq: int
    leaf: str
    entry: dict[str, Any]

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        return cls(id=str(row.seq), seq=row.seq, leaf=row.leaf, entry=content(row))


class AuditCheckpoint(BaseModel):
    """
    What the log was when it was signed; `id` is `size` for paging.

    `note` is the signed checkpoint itself and `key` the public key it was signed with.
    """

    id: str
    object: Literal["audit_checkpoint"] = "audit_checkpoint"
    created_at: int
    size: int
    root: str
    note: str
    key: str

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        return cls(
            id=str(row.size),
            created_at=int(row.created_at.timestamp()),
            size=row.size,
            root=row.root.hex(),
            note=row.note,
            key=row.key,
        )


class Erased(BaseModel):
    """Names of what was erased."""

    id: str
    object: Literal["audit_entry.erased"] = "audit_entry.erased"
    names: list[str]
