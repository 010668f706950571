"""Seal the audit log: leaves and signed checkpoints per project, and personal data apart from it."""

from alembic import op

from infra.migrations.protection import append_only, protect

revision = "0012"
down_revision = "0011"

# A log is a project's. Entries are numbered when they are sealed: only below the oldest running
# transaction is it known that no earlier one is missing.
TABLES = """
CREATE TABLE spine.audit_leaves (
    project text NOT NULL,
    seq bigint NOT NULL CHECK (seq >= 0),
    entry uuid NOT NULL,
    hash bytea NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (project, seq)
);

-- The newest row of a project is the state of its sealing: how far it read, and the right edge
-- of the tree, from which the next seal goes on without reading what was sealed before.
CREATE TABLE spine.audit_checkpoints (
    project text NOT NULL,
    size bigint NOT NULL CHECK (size > 0),
    root bytea NOT NULL CHECK (length(root) = 32),
    edge bytea[] NOT NULL,
    read_xid xid8 NOT NULL,
    read_seq bigint NOT NULL,
    note text NOT NULL,
    key text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project, size)
);

-- What an entry only commits to. Deleting a row leaves the entry verifiable and says nothing.
CREATE TABLE spine.audit_disclosures (
    project text NOT NULL,
    entry uuid NOT NULL,
    name text NOT NULL,
    salt bytea NOT NULL CHECK (length(salt) = 32),
    data jsonb NOT NULL,
    PRIMARY KEY (project, entry, name)
);
"""

# The order in which a log is sealed is the order in which it is listed, so one index does both.
ENTRIES = """
ALTER TABLE spine.audit_entries ADD COLUMN commitments jsonb NOT NULL DEFAULT '{}';
CREATE INDEX audit_entries_log ON spine.audit_entries (project, xid, seq);
DROP INDEX spine.audit_entries_project;
"""

# Nobody logs in as the owner, so nobody but a superuser can alter these tables.
OWNER = """
DO $$ BEGIN
    CREATE ROLE perpetune_audit NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$
"""

# When and in which transaction an entry was written is for the database to say.
WRITTEN = (
    "id, project, actor, action, subject, reason, facts, commitments, correlation_id, causation_id"
)


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(ENTRIES)
    op.execute("REVOKE INSERT ON spine.audit_entries FROM app, spine")
    op.execute(f"GRANT INSERT ({WRITTEN}) ON spine.audit_entries TO app, spine")
    for table in ("spine.audit_leaves", "spine.audit_checkpoints"):
        protect(table, grants="SELECT")
        append_only(table)
        op.execute(f"GRANT SELECT, INSERT ON {table} TO spine")
    protect("spine.audit_disclosures", grants="SELECT, INSERT, DELETE")
    op.execute(OWNER)
    op.execute("GRANT USAGE ON SCHEMA spine TO perpetune_audit")
    for table in ("audit_entries", "audit_leaves", "audit_checkpoints"):
        op.execute(f"ALTER TABLE spine.{table} OWNER TO perpetune_audit")
