"""Sealing: numbering what was committed, extending each project's tree, signing what it became.

An advisory lock lets one process seal at a time. A seal is one transaction; the witness is
brought up to date at the beginning of the next, so that it never holds what the database may
yet forget.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import Session

from shared.audit import logs
from shared.audit.checkpoint import Checkpoint
from shared.audit.entries import canonical_content
from shared.audit.logs import Head, Leaf, Signed
from shared.audit.note import Signer
from shared.audit.tree import hash_leaf
from shared.audit.witness import Witness
from shared.context import Context
from shared.cursor import Cursor
from shared.db import Units
from shared.errors import Corrupt
from shared.ids import Project
from shared.logging import get_logger

log = get_logger(__name__)

_ACTOR = "process:delivery"
# What a checkpoint covers is how exactly a verifier can say where a rewritten log goes wrong.
_CHECKPOINT_ROWS = 256
# A tenth of the statement timeout on a slow machine.
_BATCH_ROWS = 8192


class Sealer:
    """Seals the logs of all projects."""

    def __init__(
        self, units: Units, signer: Signer, witness: Witness, *, batch_rows: int = _BATCH_ROWS
    ) -> None:
        """
        Args:
            units: As the role `spine`.
            signer: Its name is the first part of every log's origin.
            witness: Where checkpoints go besides the database.
            batch_rows: Most entries sealed in one transaction.
        """
        self._units = units
        self._signer = signer
        self._witness = witness
        self._batch_rows = batch_rows
        # Projects whose witness may be behind; unknown at first, so all are looked at.
        self._behind: set[str] | None = None
        self._refused: dict[str, str] = {}

    def seal_all(self) -> int:
        """
        One round over all projects with news.

        A log that contradicts what was signed is reported and left as it is; the others go on.

        Returns:
            How many entries were sealed.

        Raises:
            Unavailable: The database or the witness is away; nothing is sealed ahead of it.
        """
        # Should the round break off, the next one looks at all of them again: who knows which
        # database it was that came back.
        behind, self._behind = self._behind, None
        with self._units.open(Context.root(Project(""), _ACTOR)) as uow:
            projects = set(logs.list_projects(uow.session, with_news=behind is not None))
        projects |= behind or set()
        sealed = {project: self._sealed(project) for project in sorted(projects)}
        self._behind = {project for project, count in sealed.items() if count != 0}
        return sum(count or 0 for count in sealed.values())

    def seal(self, project: str) -> int | None:
        """
        Seal the next entries of one log.

        Returns:
            How many; None when another process is sealing.

        Raises:
            Corrupt: Database and witness contradict each other or the signatures.
            Unavailable: The database or the witness is away; nothing was sealed.
        """
        with self._units.open(Context.root(Project(project), _ACTOR)) as uow:
            session = uow.session
            if not logs.is_sealer(session):
                return None
            head = logs.read_head(session, project)
            self._check(session, project, head)
            self._remind_witness(session, project, head)
            rows = logs.read_unsealed(session, project, head.read, limit=self._batch_rows)
            if rows:
                leaves, checkpoints = self._extended(project, head, rows)
                logs.insert_leaves(session, project, head.size, leaves)
                key = str(self._signer.verifier)
                logs.insert_checkpoints(session, project, key, checkpoints)
        return len(rows)

    def _sealed(self, project: str) -> int | None:
        try:
            sealed = self.seal(project)
        except Corrupt as error:
            self._report(project, error.message)
            return 0
        self._refused.pop(project, None)
        return sealed

    def _report(self, project: str, reason: str) -> None:
        if self._refused.get(project) != reason:
            log.error("audit_not_sealed", project=project, reason=reason)
        self._refused[project] = reason

    def _extended(
        self, project: str, head: Head, rows: Sequence[Row[Any]]
    ) -> tuple[list[Leaf], list[Signed]]:
        """What the next *rows* become: leaves, and a checkpoint at least every 256 of them."""
        edge = logs.edge_of(head)
        leaves, checkpoints = list[Leaf](), list[Signed]()
        for number, row in enumerate(rows, start=1):
            leaf = hash_leaf(canonical_content(row))
            leaves.append(Leaf(row.id, leaf))
            edge.append(leaf)
            if number % _CHECKPOINT_ROWS == 0 or number == len(rows):
                checkpoint = Checkpoint(self._origin(project), edge.size, edge.root())
                read = Cursor(int(row.xid), row.seq)
                note = self._signer.signed(checkpoint.text)
                checkpoints.append(Signed(checkpoint, tuple(edge.hashes), read, note))
        return leaves, checkpoints

    def _check(self, session: Session, project: str, head: Head) -> None:
        """The edge that is extended must be the one that was signed."""
        if head.note is None:
            return
        signed = Checkpoint.opened(head.note, self._signer.verifier)
        stored = Checkpoint(self._origin(project), head.size, head.root)
        if signed != stored or logs.edge_of(head).root() != head.root:
            raise Corrupt(
                f"The newest checkpoint of the audit log {stored.origin} says {head.size} entries, "
                "and its signature another thing: its row was changed. Compare with the witness "
                f"{self._witness.path(project)}.",
                code="audit_checkpoint_changed",
            )
        if head.read.xid >= logs.oldest_running(session):
            raise Corrupt(
                f"The audit log {stored.origin} was read up to transaction {head.read.xid}, which "
                "this server has not reached: the database was copied into a new cluster. Stop "
                "it, set its next transaction id beyond that with pg_resetwal, start it again.",
                code="audit_transactions_restarted",
            )

    def _remind_witness(self, session: Session, project: str, head: Head) -> None:
        """Append the newest checkpoint to the witness, if all that it holds agrees."""
        note = self._witness.last(project)
        seen = Checkpoint.opened(note, self._signer.verifier) if note else None
        if seen and logs.root_at(session, project, seen.size) != seen.root:
            raise Corrupt(
                f"The witness {self._witness.path(project)} holds a signed checkpoint of "
                f"{seen.size} entries that the database does not have: it was restored from a "
                "backup, or rewritten. Nothing is sealed until a person has looked.",
                code="audit_log_forked",
            )
        if head.note and (seen is None or seen.size < head.size):
            self._witness.append(project, head.note)

    def _origin(self, project: str) -> str:
        return f"{self._signer.verifier.name}/{project}"
