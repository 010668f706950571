"""What the tests of the audit log do with a database: write, seal, export, and forge."""

from __future__ import annotations

from pathlib import Path

import psycopg
from sqlalchemy import make_url, text

from services.governance import repository
from shared.audit.checkpoint import Checkpoint
from shared.audit.entries import content
from shared.audit.export import checkpoint_line, entry_line, header_line
from shared.audit.note import Signer
from shared.audit.sealing import Sealer
from shared.audit.verification import verify_export
from shared.audit.witness import Witness, notes_in
from shared.context import Context
from shared.db import Units, make_engine
from shared.ids import Project
from shared.settings import CoreSettings
from tests.keys import make_key

PEPPER = "pepper-of-the-tests"
SEED = bytes(range(32))
SIGNER = Signer("perpetune.test", SEED)
KEY = SIGNER.verifier


def context(project: str) -> Context:
    return Context.root(Project(project), "test")


class SealedLog:
    """
    Attributes:
        app: Units of work as rooms have them.
        spine: As the delivery process has them.
    """

    def __init__(self, database, witness: Path, *, pool: int = 5):
        settings = CoreSettings()
        self.owner = database.owner
        self.app = Units(make_engine(database.app, settings, pool=pool))
        self.spine = Units(make_engine(database.spine, settings))
        self.witness = Witness(witness)

    def close(self) -> None:
        self.app.engine.dispose()
        self.spine.engine.dispose()

    def sealer(self, **options) -> Sealer:
        return Sealer(self.spine, SIGNER, self.witness, **options)

    def write(self, count: int, project: str = "a") -> None:
        """So many entries, each in a transaction of its own."""
        for number in range(count):
            with self.app.open(context(project)) as uow:
                facts = {"number": number, "share": 0.25, "name": "Ünï"}
                uow.audit("thing.made", f"thing_{number}", reason="why not", facts=facts)

    def write_at_once(self, count: int, project: str = "a") -> None:
        """So many entries in one transaction."""
        with self.app.open(context(project)) as uow:
            for number in range(count):
                uow.audit("thing.made", f"thing_{number}", facts={"number": number})

    def seal(self, **options) -> int:
        """Until there is nothing to seal, and the witness is up to date."""
        sealer = self.sealer(**options)
        sealed = sealer.seal_all()
        while more := sealer.seal_all():
            sealed += more
        return sealed

    def write_sealed(self) -> None:
        """Twelve entries under checkpoints of 5, 9 and 12."""
        for count in (5, 4, 3):
            self.write(count)
            self.seal()
        assert self.verify().fault is None

    def rows(self, statement: str, **parameters):
        with self.spine.open(context("")) as uow:
            return uow.session.execute(text(statement), parameters).all()

    def leaves(self, project: str = "a"):
        return self.rows(
            "SELECT l.seq, CAST(l.entry AS text), CAST(CAST(e.xid AS text) AS bigint), e.seq "
            "FROM spine.audit_leaves l JOIN spine.audit_entries e ON e.id = l.entry "
            "WHERE l.project = :project ORDER BY l.seq",
            project=project,
        )

    def export(self, project: str = "a") -> list[bytes]:
        """The lines that the command writes, straight from the tables."""
        with self.app.open(context(project)) as uow:
            entries = repository.list_sealed(uow.session, after=-1, limit=100_000)
            signed = repository.list_checkpoints(
                uow.session, after=None, order="asc", limit=100_000
            )
        notes = {row.size: row.note for row in signed}
        lines = [header_line(f"perpetune.test/{project}")]
        for row in entries:
            lines.append(entry_line(row.seq, row.leaf, content(row)))
            if row.seq + 1 in notes:
                lines.append(checkpoint_line(notes[row.seq + 1]))
        return lines

    def anchors(self, project: str = "a") -> list[Checkpoint]:
        notes = notes_in(self.witness.path(project).read_text())
        return [Checkpoint.opened(note, KEY) for note in notes]

    def verify(self, project: str = "a"):
        """The project's export against key and witness."""
        return verify_export(self.export(project), KEY, self.anchors(project))

    def forge(self, *statements: str) -> None:
        """As somebody who owns the server: triggers and privileges do not stop a superuser."""
        address = make_url(self.owner).set(drivername="postgresql")
        with psycopg.connect(address.render_as_string(hide_password=False)) as connection:
            connection.execute("SET session_replication_role = replica")
            for statement in statements:
                connection.execute(statement)

    def make_key(self, project: str = "a") -> str:
        """An API key of *project* with all scopes."""
        return make_key(self.app, project, PEPPER)
