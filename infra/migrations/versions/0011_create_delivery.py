"""Create the tables of delivery: subscriptions of programs outside."""

from alembic import op

from infra.migrations.protection import open_schema, protect

revision = "0011"
down_revision = "0010"

# The cursor begins at the oldest transaction still running: whatever commits from now on is sent.
TABLES = """
CREATE TABLE delivery.subscriptions (
    id text PRIMARY KEY,
    project text NOT NULL,
    queue text NOT NULL,
    types text[] NOT NULL,
    cursor_xid xid8 NOT NULL DEFAULT pg_snapshot_xmin(pg_current_snapshot()),
    cursor_seq bigint NOT NULL DEFAULT 0,
    held_until timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (project, queue)
);
"""


def upgrade() -> None:
    open_schema("delivery")
    op.execute(TABLES)
    protect("delivery.subscriptions", grants="SELECT, INSERT, DELETE")
    op.execute("GRANT SELECT, UPDATE ON delivery.subscriptions TO spine")
    # Delivery records in the project's audit log whom it gave up on.
    op.execute("GRANT INSERT ON spine.audit_entries TO spine")
    # Replaying a dead letter moves it back among the deliveries.
    op.execute("GRANT DELETE ON spine.dead_letters TO app")
