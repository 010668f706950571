"""Create the tables of gateway: projects and API keys."""

from alembic import op

from infra.migrations.protection import open_schema, protect

revision = "0002"
down_revision = "0001"

TABLES = """
CREATE TABLE gateway.projects (
    project text PRIMARY KEY CHECK (project ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The key itself is nowhere: `mac` is its HMAC under a pepper outside the database.
CREATE TABLE gateway.keys (
    key_id text PRIMARY KEY,
    project text NOT NULL REFERENCES gateway.projects,
    name text NOT NULL,
    mac text NOT NULL,
    scopes text[] NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX keys_project ON gateway.keys (project, created_at, key_id);

CREATE VIEW gateway.keys_v1 WITH (security_invoker = true) AS
    SELECT key_id, project, mac, scopes, expires_at FROM gateway.keys WHERE revoked_at IS NULL;
"""


def upgrade() -> None:
    open_schema("gateway")
    op.execute(TABLES)
    protect("gateway.projects", grants="SELECT, INSERT")
    protect("gateway.keys", grants="SELECT, INSERT, UPDATE")
    # Every door copies the keys of all projects into memory.
    op.execute("GRANT SELECT ON gateway.keys, gateway.keys_v1 TO spine")
