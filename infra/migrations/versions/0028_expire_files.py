"""A file that has expired is as good as deleted."""

from alembic import op

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    op.execute("""
        CREATE OR REPLACE VIEW ingestion.files_v1 WITH (security_invoker = true) AS
            SELECT project, id AS file_id, purpose, digest, bytes, filename, status, created_at
            FROM ingestion.files
            WHERE deleted_at IS NULL AND (expires_at IS NULL OR expires_at > now())
    """)
