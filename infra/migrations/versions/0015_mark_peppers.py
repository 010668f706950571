"""Mark under which pepper an API key is stored, so that it is known what a rotation would end."""

from alembic import op

revision = "0015"
down_revision = "0014"

TABLES = """
-- A fingerprint; NULL where 0.1.0 stored the key, until it is used the next time.
ALTER TABLE gateway.keys ADD COLUMN pepper text;

CREATE OR REPLACE VIEW gateway.keys_v1 WITH (security_invoker = true) AS
    SELECT key_id, project, mac, scopes, expires_at, pepper FROM gateway.keys
    WHERE revoked_at IS NULL;
"""


def upgrade() -> None:
    op.execute(TABLES)
