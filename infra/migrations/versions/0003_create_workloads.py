"""Create the tables of workloads."""

from alembic import op

from infra.migrations.protection import append_only, open_schema, protect

revision = "0003"
down_revision = "0002"

TABLES = """
CREATE TABLE workloads.workloads (
    project text NOT NULL,
    workload_id text NOT NULL,
    name text NOT NULL,
    base_model text NOT NULL,
    -- As last heard from feedback: corrections that no dataset has used yet.
    corrections_waiting int NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project, workload_id)
);

-- Everything a workload answers to, its own name included: one key keeps both kinds unique.
CREATE TABLE workloads.aliases (
    project text NOT NULL,
    alias text NOT NULL,
    workload_id text NOT NULL,
    PRIMARY KEY (project, alias),
    FOREIGN KEY (project, workload_id) REFERENCES workloads.workloads
);
CREATE INDEX aliases_workload ON workloads.aliases (project, workload_id);

CREATE TABLE workloads.policies (
    project text NOT NULL,
    workload_id text NOT NULL,
    version int NOT NULL CHECK (version > 0),
    policy jsonb NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project, workload_id, version),
    FOREIGN KEY (project, workload_id) REFERENCES workloads.workloads
);

CREATE TABLE workloads.cycles (
    project text NOT NULL,
    cycle_id text NOT NULL,
    workload_id text NOT NULL,
    policy_version int NOT NULL,
    stage text NOT NULL CHECK (stage IN ('corrections', 'curation', 'sealing', 'training',
                                         'evaluation', 'release', 'closed')),
    step text NOT NULL CHECK (step IN ('dataset', 'job', 'evaluation', 'release')),
    since timestamptz NOT NULL DEFAULT now(),
    deadline timestamptz NOT NULL,
    trigger text NOT NULL CHECK (trigger IN ('drift', 'request', 'schedule')),
    owner text NOT NULL,
    alert_id text,
    corrections_needed int NOT NULL,
    corrections int NOT NULL,
    corrections_digest text,
    parent text,
    dataset_id text,
    validation_digest text,
    job_id text,
    model text,
    evaluation_id text,
    release_id text,
    outcome text CHECK (outcome IN ('promoted', 'rolled_back', 'failed', 'expired')),
    reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz,
    PRIMARY KEY (project, cycle_id),
    FOREIGN KEY (project, workload_id, policy_version) REFERENCES workloads.policies,
    CHECK ((stage = 'closed') = (outcome IS NOT NULL AND closed_at IS NOT NULL))
);
-- One open turn of the loop per workload, whoever asks for it at the same time.
CREATE UNIQUE INDEX cycles_open ON workloads.cycles (project, workload_id)
    WHERE stage <> 'closed';
CREATE INDEX cycles_workload ON workloads.cycles (project, workload_id, cycle_id);

CREATE VIEW workloads.workloads_v1 WITH (security_invoker = true) AS
SELECT w.project, w.workload_id, w.name,
       ARRAY(SELECT a.alias FROM workloads.aliases a
             WHERE a.project = w.project AND a.workload_id = w.workload_id AND a.alias <> w.name
             ORDER BY a.alias) AS aliases,
       w.base_model, p.version AS policy_version, p.policy
FROM workloads.workloads w
CROSS JOIN LATERAL (
    SELECT version, policy FROM workloads.policies
    WHERE project = w.project AND workload_id = w.workload_id
    ORDER BY version DESC LIMIT 1) p;
"""


def upgrade() -> None:
    open_schema("workloads")
    op.execute(TABLES)
    protect("workloads.workloads", grants="SELECT, INSERT, UPDATE")
    protect("workloads.aliases", grants="SELECT, INSERT")
    protect("workloads.policies", grants="SELECT, INSERT")
    append_only("workloads.policies")
    protect("workloads.cycles", grants="SELECT, INSERT, UPDATE")
    op.execute("GRANT SELECT ON workloads.workloads_v1 TO app, spine")
    op.execute(
        "GRANT SELECT ON workloads.workloads, workloads.aliases, workloads.policies TO spine"
    )
