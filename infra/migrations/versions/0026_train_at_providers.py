"""Jobs can be trained at a provider: what is known of such a job there, and its next step."""

from alembic import op

from infra.migrations.protection import protect

revision = "0026"
down_revision = "0025"

# Weights of a provider's checkpoint stay there.
TABLES = """
ALTER TABLE finetuning.jobs ADD COLUMN provider text;
ALTER TABLE finetuning.checkpoints ALTER COLUMN gguf_digest DROP NOT NULL;
ALTER TABLE finetuning.checkpoints ALTER COLUMN peft_digest DROP NOT NULL;

CREATE TABLE finetuning.provider_runs (
    job_id text PRIMARY KEY REFERENCES finetuning.jobs (id),
    project text NOT NULL,
    provider text NOT NULL,
    phase text NOT NULL CHECK (phase IN
        ('uploading', 'creating', 'following', 'collecting', 'stopping', 'tidying', 'done')),
    position int NOT NULL DEFAULT 0,
    training_file text,
    validation_file text,
    remote_job text,
    remote_status text,
    last_event text,
    wish text CHECK (wish IN ('pause', 'resume')),
    wished_at timestamptz,
    events int NOT NULL DEFAULT 0,
    quiet_looks int NOT NULL DEFAULT 0,
    failures int NOT NULL DEFAULT 0,
    failing_since timestamptz,
    missing_since timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 80);
CREATE INDEX provider_runs_project ON finetuning.provider_runs (project, job_id);
"""

# What was rung may be under way, and is not begun beside itself.
FUNCTION = """
CREATE FUNCTION spine.hasten(t text, l text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
    UPDATE spine.deliveries SET due_at = now()
    WHERE project = current_setting('app.project', true) AND task = t AND lane = l
      AND rung_at IS NULL AND due_at > now()
$$;
"""


def upgrade() -> None:
    op.execute(TABLES)
    protect("finetuning.provider_runs", grants="SELECT, INSERT, UPDATE")
    op.execute(FUNCTION)
    op.execute("REVOKE EXECUTE ON FUNCTION spine.hasten(text, text) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION spine.hasten(text, text) TO app, spine")
