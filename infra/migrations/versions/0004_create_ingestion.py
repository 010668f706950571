"""Create the tables of ingestion: files, findings, datasets, and their published views."""

from alembic import op

from infra.migrations.protection import append_only, open_schema, protect

revision = "0004"
down_revision = "0003"

TABLES = """
CREATE TABLE ingestion.files (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    id text PRIMARY KEY,
    project text NOT NULL,
    purpose text NOT NULL,
    filename text NOT NULL,
    bytes bigint NOT NULL CHECK (bytes >= 0),
    digest text NOT NULL,
    status text NOT NULL CHECK (status IN ('uploaded', 'processed', 'error')),
    status_details text,
    rows int,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    deleted_at timestamptz
);
CREATE INDEX files_project ON ingestion.files (project, seq);

CREATE TABLE ingestion.findings (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project text NOT NULL,
    -- A file, or the dataset in which files were looked at together.
    subject text NOT NULL,
    rule text NOT NULL,
    severity text NOT NULL,
    line int,
    pointer text NOT NULL,
    message text NOT NULL,
    fix text NOT NULL
);
CREATE INDEX findings_subject ON ingestion.findings (project, subject, seq);

CREATE TABLE ingestion.datasets (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    id text PRIMARY KEY,
    project text NOT NULL,
    workload_id text,
    state text NOT NULL CHECK (state IN ('sealed', 'refused')),
    base text NOT NULL,
    requester text NOT NULL,
    sources jsonb NOT NULL,
    -- Where each row came from: a blob of JSON lines {row, source, line, shard, offset, length}.
    manifest_digest text,
    training_digest text,
    validation_digest text,
    training_rows int NOT NULL DEFAULT 0,
    validation_rows int NOT NULL DEFAULT 0,
    training_tokens bigint NOT NULL DEFAULT 0,
    trained_tokens bigint NOT NULL DEFAULT 0,
    token_report jsonb,
    error_code text,
    error_message text,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX datasets_project ON ingestion.datasets (project, seq);
CREATE INDEX datasets_workload ON ingestion.datasets (project, workload_id, seq);

CREATE VIEW ingestion.files_v1 WITH (security_invoker = true) AS
    SELECT project, id AS file_id, purpose, digest, bytes, filename, status, created_at
    FROM ingestion.files WHERE deleted_at IS NULL;

CREATE VIEW ingestion.datasets_v1 WITH (security_invoker = true) AS
    SELECT project, id AS dataset_id, workload_id, state, base, training_digest,
           validation_digest, training_rows, validation_rows, training_tokens, trained_tokens,
           created_at
    FROM ingestion.datasets;
"""


def upgrade() -> None:
    open_schema("ingestion")
    op.execute(TABLES)
    protect("ingestion.files", grants="SELECT, INSERT, UPDATE")
    protect("ingestion.findings", grants="SELECT, INSERT, DELETE")
    protect("ingestion.datasets", grants="SELECT, INSERT")
    append_only("ingestion.datasets")
    op.execute("GRANT SELECT ON ingestion.files_v1, ingestion.datasets_v1 TO app")
