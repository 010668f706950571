"""Chats that their callers asked to keep."""

from alembic import op

from infra.migrations.protection import protect

revision = "0024"
down_revision = "0023"

TABLE = """
-- json, not jsonb: what was said comes back as it was, also characters that jsonb refuses.
-- A deleted row stays without its words until its time is over, because a process that was killed
-- sends its last lines again.
CREATE TABLE inference.stored_completions (
    project text NOT NULL,
    request uuid NOT NULL,
    asked_model text NOT NULL,
    model text NOT NULL,
    messages json,
    completion json,
    metadata jsonb,
    created_at timestamptz NOT NULL,
    deleted_at timestamptz,
    PRIMARY KEY (project, request),
    CHECK (num_nonnulls(messages, completion) = CASE WHEN deleted_at IS NULL THEN 2 ELSE 0 END)
);
CREATE INDEX stored_completions_age ON inference.stored_completions (created_at);
"""


def upgrade() -> None:
    op.execute(TABLE)
    protect("inference.stored_completions", grants="SELECT, UPDATE")
    op.execute("GRANT SELECT, INSERT, DELETE ON inference.stored_completions TO spine")
