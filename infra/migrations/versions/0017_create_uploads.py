"""Create the tables of uploads in parts."""

from alembic import op

from infra.migrations.protection import append_only, protect

revision = "0017"
down_revision = "0016"

TABLES = """
CREATE TABLE ingestion.uploads (
    id text PRIMARY KEY,
    project text NOT NULL,
    filename text NOT NULL,
    purpose text NOT NULL,
    bytes bigint NOT NULL CHECK (bytes > 0),
    mime_type text NOT NULL,
    -- Of the file that is made of the parts.
    expires_after_seconds int,
    status text NOT NULL CHECK (status IN ('pending', 'completed', 'cancelled')),
    file_id text,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE TABLE ingestion.upload_parts (
    id text PRIMARY KEY,
    project text NOT NULL,
    upload_id text NOT NULL REFERENCES ingestion.uploads (id),
    digest text NOT NULL,
    bytes bigint NOT NULL CHECK (bytes >= 0),
    created_at timestamptz NOT NULL
);
CREATE INDEX upload_parts_upload ON ingestion.upload_parts (project, upload_id);
"""


def upgrade() -> None:
    op.execute(TABLES)
    protect("ingestion.uploads", grants="SELECT, INSERT, UPDATE")
    protect("ingestion.upload_parts", grants="SELECT, INSERT")
    append_only("ingestion.upload_parts")
