"""Create the tables of webhooks: endpoints, and the log of what was sent to them."""

from alembic import op

from infra.migrations.protection import protect

revision = "0021"
down_revision = "0020"

# The cursor begins at the oldest transaction still running: whatever commits from now on is sent.
TABLES = """
CREATE TABLE delivery.webhook_endpoints (
    id text PRIMARY KEY,
    project text NOT NULL,
    name text NOT NULL,
    url text NOT NULL,
    -- OpenAI's names.
    event_types text[] NOT NULL,
    secret_version int NOT NULL DEFAULT 1,
    rotated_at timestamptz,
    -- Until then the secret before is valid as well.
    old_secret_until timestamptz,
    cursor_xid xid8 NOT NULL DEFAULT pg_snapshot_xmin(pg_current_snapshot()),
    cursor_seq bigint NOT NULL DEFAULT 0,
    held_until timestamptz NOT NULL DEFAULT now(),
    failures int NOT NULL DEFAULT 0,
    failing_since timestamptz,
    -- Nothing is sent any more until the endpoint is changed.
    disabled_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX webhook_endpoints_project ON delivery.webhook_endpoints (project, id);

CREATE TABLE delivery.webhook_attempts (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project text NOT NULL,
    endpoint_id text NOT NULL REFERENCES delivery.webhook_endpoints (id) ON DELETE CASCADE,
    event_id text NOT NULL,
    event_type text NOT NULL,
    -- Of the answer; null when there was none, and `error` says why.
    status int,
    answer text,
    error text,
    milliseconds int NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX webhook_attempts_endpoint
    ON delivery.webhook_attempts (project, endpoint_id, seq);
CREATE INDEX webhook_attempts_age ON delivery.webhook_attempts (created_at);
"""


def upgrade() -> None:
    op.execute(TABLES)
    protect("delivery.webhook_endpoints", grants="SELECT, INSERT, UPDATE, DELETE")
    protect("delivery.webhook_attempts", grants="SELECT")
    op.execute("GRANT SELECT, UPDATE ON delivery.webhook_endpoints TO spine")
    op.execute("GRANT SELECT, INSERT, DELETE ON delivery.webhook_attempts TO spine")
