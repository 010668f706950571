"""Create the tables of finetuning."""

from alembic import op

from infra.migrations.protection import append_only, open_schema, protect

revision = "0005"
down_revision = "0004"

# The primary keys are the ids alone: they are unique over all projects, and leases name them so.
TABLES = """
CREATE TABLE finetuning.jobs (
    id text PRIMARY KEY,
    project text NOT NULL,
    state text NOT NULL CHECK (state IN
        ('validating_files', 'queued', 'running', 'succeeded', 'failed', 'cancelled')),
    model text NOT NULL,
    base text NOT NULL,
    parent_peft_digest text,
    training_file text NOT NULL,
    validation_file text,
    suffix text,
    seed bigint NOT NULL,
    hyperparameters jsonb NOT NULL,
    user_metadata jsonb,
    cycle_id text,
    dataset_id text NOT NULL,
    training_digest text,
    validation_digest text,
    attempts int NOT NULL DEFAULT 0,
    fine_tuned_model text,
    gguf_digest text,
    peft_digest text,
    result_file text,
    trained_tokens bigint,
    error jsonb,
    estimated_finish timestamptz,
    request_digest text,
    correlation_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
) WITH (fillfactor = 80);
CREATE INDEX jobs_project ON finetuning.jobs (project, id);
CREATE INDEX jobs_request ON finetuning.jobs (project, request_digest);
CREATE INDEX jobs_model ON finetuning.jobs (project, fine_tuned_model);
-- A command that arrives twice, from two deliveries, still makes one job.
CREATE UNIQUE INDEX jobs_cycle ON finetuning.jobs (project, cycle_id, dataset_id)
    WHERE cycle_id IS NOT NULL;

CREATE TABLE finetuning.job_events (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    id text PRIMARY KEY,
    project text NOT NULL,
    job_id text NOT NULL REFERENCES finetuning.jobs (id),
    level text NOT NULL CHECK (level IN ('info', 'warn', 'error')),
    message text NOT NULL,
    data jsonb,
    step int,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX job_events_job ON finetuning.job_events (project, job_id, seq);
-- A child that goes on from an older state reports some steps again; each is kept once.
CREATE UNIQUE INDEX job_events_step ON finetuning.job_events (job_id, step)
    WHERE step IS NOT NULL;

CREATE TABLE finetuning.checkpoints (
    id text PRIMARY KEY,
    project text NOT NULL,
    job_id text NOT NULL REFERENCES finetuning.jobs (id),
    step_number int NOT NULL,
    model_id text NOT NULL,
    metrics jsonb NOT NULL,
    gguf_digest text NOT NULL,
    peft_digest text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (job_id, step_number)
);
CREATE INDEX checkpoints_job ON finetuning.checkpoints (project, job_id, step_number);
CREATE INDEX checkpoints_model ON finetuning.checkpoints (project, model_id);
"""


def upgrade() -> None:
    open_schema("finetuning")
    op.execute(TABLES)
    protect("finetuning.jobs", grants="SELECT, INSERT, UPDATE")
    protect("finetuning.job_events", grants="SELECT, INSERT")
    append_only("finetuning.job_events")
    protect("finetuning.checkpoints", grants="SELECT, INSERT")
    append_only("finetuning.checkpoints")
