"""A project can let another one use a model of its own."""

from alembic import op

from infra.migrations.protection import protect

revision = "0020"
down_revision = "0019"

TABLES = """
CREATE TABLE releases.permissions (
    id text PRIMARY KEY,
    -- Who gives it, and owns the model.
    project text NOT NULL,
    model_id text NOT NULL,
    -- Who may use the model.
    grantee text NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (project, model_id, grantee)
);

-- For the doors alone, which serve all projects; an owner sees its own.
CREATE VIEW releases.granted_models_v1 WITH (security_invoker = true) AS
SELECT p.grantee AS project, m.project AS owner, m.model_id, m.base, m.gguf_digest, m.peft_digest
FROM releases.permissions p
JOIN releases.models m ON m.project = p.project AND m.model_id = p.model_id
WHERE m.deleted_at IS NULL;
"""


def upgrade() -> None:
    op.execute(TABLES)
    protect("releases.permissions", grants="SELECT, INSERT, DELETE")
    op.execute("GRANT SELECT ON releases.permissions, releases.granted_models_v1 TO spine")
