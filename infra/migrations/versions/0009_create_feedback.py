"""Create the tables of feedback: entries and outcomes, and the outcome feed."""

from alembic import op

from infra.migrations.protection import append_only, open_schema, protect

revision = "0009"
down_revision = "0008"

TABLES = """
CREATE TABLE feedback.entries (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    id text PRIMARY KEY,
    project text NOT NULL,
    inference_id text NOT NULL,
    workload_id text,
    release_id text,
    arm text NOT NULL,
    success boolean,
    rating smallint CHECK (rating BETWEEN 1 AND 5),
    thumb text CHECK (thumb IN ('up', 'down')),
    correction text,
    comment text,
    source text NOT NULL,
    -- The cycle that learned from the correction.
    curated_by text,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX entries_inference ON feedback.entries (project, inference_id, seq);
CREATE INDEX entries_waiting ON feedback.entries (project, workload_id, seq)
    WHERE correction IS NOT NULL AND curated_by IS NULL;

CREATE TABLE feedback.outcomes (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    project text NOT NULL,
    inference_id text NOT NULL,
    workload_id text,
    assigned_release text,
    arm text NOT NULL,
    success smallint NOT NULL CHECK (success IN (0, 1)),
    source text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- The first label of an inference counts; the race of two is decided here.
    PRIMARY KEY (project, inference_id)
);
CREATE INDEX outcomes_feed ON feedback.outcomes (project, workload_id, xid, seq);

CREATE VIEW feedback.outcomes_v1 WITH (security_invoker = true) AS
    SELECT xid, seq, project, inference_id, workload_id, assigned_release, arm, success, source,
           created_at
    FROM feedback.outcomes;
"""


def upgrade() -> None:
    open_schema("feedback")
    op.execute(TABLES)
    protect("feedback.entries", grants="SELECT, INSERT, UPDATE")
    protect("feedback.outcomes", grants="SELECT, INSERT")
    append_only("feedback.outcomes")
    op.execute("GRANT SELECT ON feedback.outcomes_v1 TO app")
