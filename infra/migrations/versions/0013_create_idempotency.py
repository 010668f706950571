"""Create the kept answers of creating requests, and find a file by what was uploaded."""

from alembic import op

from infra.migrations.protection import protect

revision = "0013"
down_revision = "0012"

TABLES = """
CREATE TABLE spine.idempotency_keys (
    project text NOT NULL,
    key text NOT NULL,
    digest text NOT NULL,
    status smallint NOT NULL,
    -- Byte for byte what was sent, so that a repetition gets the same.
    body text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project, key)
) WITH (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX idempotency_keys_age ON spine.idempotency_keys (created_at);

-- A repeated upload is recognised by its content.
CREATE INDEX files_content ON ingestion.files (project, digest, seq);
"""


def upgrade() -> None:
    op.execute(TABLES)
    protect("spine.idempotency_keys", grants="SELECT, INSERT")
    op.execute("GRANT SELECT, DELETE ON spine.idempotency_keys TO spine")
