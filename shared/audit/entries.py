"""Audit entries, written in the transaction of what they record, without a lock."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import text

from shared.audit.canonical import canonical, interoperable
from shared.audit.commitments import Opening
from shared.ids import uuid7

if TYPE_CHECKING:
    from shared.db import UnitOfWork

COLUMNS = r"""
    CAST(e.id AS text) AS id, e.project,
    to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24\:MI\:SS.US"Z"') AS at,
    e.actor, e.action, e.subject, e.reason, CAST(e.facts AS text) AS facts,
    CAST(e.commitments AS text) AS commitments, e.correlation_id, e.causation_id
"""
"""What is sealed of a row `e`; `content` takes it as it comes."""

# By position and without SQLAlchemy's compiler: that halves what an entry costs its transaction.
_INSERT = """
    INSERT INTO spine.audit_entries (id, project, actor, action, subject, reason, facts,
                                     commitments, correlation_id, causation_id)
    VALUES (%s, %s, %s, %s, %s, %s, CAST(%s AS jsonb), CAST(%s AS jsonb), %s, %s)
"""
_DISCLOSE = text("""
    INSERT INTO spine.audit_disclosures (project, entry, name, salt, data)
    VALUES (:project, :entry, :name, :salt, CAST(:data AS jsonb))
""")


class EntryRow(Protocol):
    """A row of `COLUMNS`."""

    id: str
    project: str
    at: str
    actor: str
    action: str
    subject: str
    reason: str
    facts: str
    commitments: str
    correlation_id: str
    causation_id: str


def append(
    uow: UnitOfWork,
    action: str,
    subject: str,
    *,
    reason: str,
    facts: dict[str, Any],
    personal: dict[str, Any],
) -> None:
    """Append one entry; see `UnitOfWork.audit` for the meaning of the parameters."""
    entry = uuid7()
    openings = {name: Opening.of(data) for name, data in personal.items()}
    commitments = {name: opening.commitment for name, opening in openings.items()}
    context = uow.context
    uow.session.connection().exec_driver_sql(
        _INSERT,
        (
            *(entry, uow.project, context.actor, action, subject, reason),
            *(json.dumps(facts), json.dumps(commitments)),
            *(context.correlation_id, context.causation_id),
        ),
    )
    for name, opening in openings.items():
        uow.session.execute(
            _DISCLOSE,
            {
                "project": uow.project,
                "entry": entry,
                "name": name,
                "salt": opening.salt,
                "data": json.dumps(opening.data),
            },
        )


def content(row: EntryRow) -> dict[str, Any]:
    """The entry as people read it and as it is hashed."""
    return {
        "action": row.action,
        "actor": row.actor,
        "at": row.at,
        "causation_id": row.causation_id,
        "commitments": json.loads(row.commitments),
        "correlation_id": row.correlation_id,
        "facts": interoperable(row.facts),
        "id": row.id,
        "project": row.project,
        "reason": row.reason,
        "subject": row.subject,
    }


def canonical_content(row: EntryRow) -> bytes:
    """What the leaf of an entry is the hash of."""
    return canonical(content(row))
