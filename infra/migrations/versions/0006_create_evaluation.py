"""Create the tables of evaluation: evaluations, their cases, and the published verdicts."""

from alembic import op

from infra.migrations.protection import open_schema, protect

revision = "0006"
down_revision = "0005"

TABLES = """
CREATE TABLE evaluation.evaluations (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    id text PRIMARY KEY,
    project text NOT NULL,
    model text NOT NULL,
    baseline text,
    -- Unknown when the evaluation failed before its model was found.
    base text,
    workload_id text,
    cycle_id text,
    file_id text,
    digest text NOT NULL,
    state text NOT NULL CHECK (state IN ('queued', 'running', 'completed', 'failed')),
    -- Number of the next step; a step with another number is out of date.
    position int NOT NULL DEFAULT 0,
    cases int NOT NULL DEFAULT 0,
    -- By model: negative log-likelihoods and token counts of the paragraphs of the general text.
    general jsonb NOT NULL DEFAULT '{}',
    metrics jsonb,
    policy_version int,
    verdict text CHECK (verdict IN ('pass', 'fail')),
    rules jsonb NOT NULL DEFAULT '[]',
    reason text NOT NULL DEFAULT '',
    error_code text,
    created_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    CHECK ((state IN ('completed', 'failed')) = (verdict IS NOT NULL AND completed_at IS NOT NULL))
);
CREATE INDEX evaluations_project ON evaluation.evaluations (project, seq);
CREATE INDEX evaluations_workload ON evaluation.evaluations (project, workload_id, seq);

CREATE TABLE evaluation.cases (
    project text NOT NULL,
    evaluation_id text NOT NULL REFERENCES evaluation.evaluations (id),
    line int NOT NULL CHECK (line >= 1),
    side text NOT NULL CHECK (side IN ('candidate', 'baseline')),
    expected text NOT NULL,
    answer text,
    exact boolean,
    -- By top-level key of the expected object; null where the expected answer is no JSON object.
    fields jsonb,
    -- Why there is no answer, when the model refused the prompt.
    error text,
    is_cut boolean NOT NULL DEFAULT false,
    input_tokens int,
    output_tokens int,
    latency_ms double precision,
    nll double precision,
    target_tokens int,
    PRIMARY KEY (evaluation_id, line, side)
);
CREATE INDEX cases_project ON evaluation.cases (project, evaluation_id, line);

CREATE VIEW evaluation.verdicts_v1 WITH (security_invoker = true) AS
    SELECT project, id AS evaluation_id, model, baseline, workload_id, verdict, completed_at
    FROM evaluation.evaluations WHERE state = 'completed';
"""


def upgrade() -> None:
    open_schema("evaluation")
    op.execute(TABLES)
    protect("evaluation.evaluations", grants="SELECT, INSERT, UPDATE")
    protect("evaluation.cases", grants="SELECT, INSERT, UPDATE")
    op.execute("GRANT SELECT ON evaluation.verdicts_v1 TO app")
