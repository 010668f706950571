"""Create the tables of batches: batches, and the answers to their lines."""

from alembic import op

from infra.migrations.protection import protect

revision = "0023"
down_revision = "0022"

# The primary key is the id alone: it is unique over all projects, and leases name it so.
TABLES = """
CREATE TABLE inference.batches (
    id text PRIMARY KEY,
    project text NOT NULL,
    state text NOT NULL CHECK (state IN ('validating', 'failed', 'in_progress', 'finalizing',
        'completed', 'expired', 'cancelling', 'cancelled')),
    endpoint text NOT NULL,
    input_file text NOT NULL,
    input_digest text NOT NULL,
    user_metadata jsonb,
    -- Of the files that are made.
    expires_after_seconds int,
    -- Null until the file was checked, and where its lines name several.
    model text,
    total int NOT NULL DEFAULT 0,
    completed int NOT NULL DEFAULT 0,
    failed int NOT NULL DEFAULT 0,
    -- Of the failed ones, those that were not asked to the end.
    unanswered int NOT NULL DEFAULT 0,
    input_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    -- What is wrong with the input file, by line.
    errors jsonb,
    output_file text,
    error_file text,
    -- Starts since the last progress.
    attempts int NOT NULL DEFAULT 0,
    request_digest text NOT NULL,
    correlation_id text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    in_progress_at timestamptz,
    finalizing_at timestamptz,
    cancelling_at timestamptz,
    -- The files are stored, and ingestion was told.
    written_at timestamptz,
    ended_at timestamptz
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 500);
CREATE INDEX batches_project ON inference.batches (project, id);
CREATE INDEX batches_request ON inference.batches (project, request_digest);

CREATE TABLE inference.batch_results (
    batch_id text NOT NULL REFERENCES inference.batches (id),
    line int NOT NULL,
    project text NOT NULL,
    status int NOT NULL,
    request_id text NOT NULL,
    -- JSON as text: an answer may hold what jsonb cannot.
    body text NOT NULL,
    PRIMARY KEY (batch_id, line)
);
"""

# The new condition holds for every row that fulfilled the old one, so none is looked at.
DOORS = """
ALTER TABLE inference.records DROP CONSTRAINT records_door_check;
ALTER TABLE inference.records ADD CONSTRAINT records_door_check
    CHECK (door IN ('http', 'queue', 'batch')) NOT VALID;
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(DOORS)
    protect("inference.batches", grants="SELECT, INSERT, UPDATE")
    protect("inference.batch_results", grants="SELECT, INSERT, DELETE")
