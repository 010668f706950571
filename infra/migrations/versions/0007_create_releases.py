"""Create the tables of releases: models, releases, their decisions, the routes."""

from alembic import op

from infra.migrations.protection import append_only, open_schema, protect

revision = "0007"
down_revision = "0006"

TABLES = """
CREATE TABLE releases.models (
    project text NOT NULL,
    model_id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('fine_tuned', 'checkpoint')),
    base text NOT NULL,
    parent text NOT NULL,
    gguf_digest text NOT NULL,
    peft_digest text NOT NULL,
    job_id text NOT NULL,
    dataset_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    PRIMARY KEY (project, model_id)
);

CREATE TABLE releases.releases (
    project text NOT NULL,
    release_id text NOT NULL,
    workload_id text NOT NULL,
    model text NOT NULL,
    state text NOT NULL CHECK (state IN ('gated', 'canary', 'live', 'superseded', 'rolled_back',
                                         'frozen')),
    share double precision NOT NULL DEFAULT 0 CHECK (share BETWEEN 0 AND 1),
    salt text NOT NULL,
    policy_version int NOT NULL,
    evaluation_id text,
    override_reason text,
    cycle_id text,
    owner text NOT NULL,
    control_release text,
    control_model text,
    canary jsonb,
    outcomes_start text,
    outcomes_cursor text,
    records_start text,
    records_cursor text,
    reason text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    settled_at timestamptz,
    PRIMARY KEY (project, release_id),
    -- Nothing reaches the traffic without a verdict or a recorded override.
    CHECK (num_nonnulls(evaluation_id, override_reason) = 1),
    CHECK (state <> 'canary' OR (canary IS NOT NULL AND control_release IS NOT NULL))
);
CREATE UNIQUE INDEX releases_live ON releases.releases (project, workload_id)
    WHERE state = 'live';
CREATE UNIQUE INDEX releases_canary ON releases.releases (project, workload_id)
    WHERE state = 'canary';
-- A cycle asks for one release; a command that comes twice finds the first.
CREATE UNIQUE INDEX releases_cycle ON releases.releases (project, cycle_id);
CREATE INDEX releases_workload ON releases.releases (project, workload_id, release_id);

CREATE TABLE releases.decisions (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    project text NOT NULL,
    release_id text NOT NULL,
    verdict text NOT NULL CHECK (verdict IN ('started', 'ramped', 'promoted', 'rolled_back',
                                             'frozen', 'superseded', 'restored')),
    share double precision NOT NULL,
    reason text NOT NULL,
    policy_version int NOT NULL,
    -- Of a canary only: the numbers, and the feed positions they rest on.
    evidence jsonb,
    outcomes_cursor text,
    records_cursor text,
    actor text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project, release_id, seq),
    FOREIGN KEY (project, release_id) REFERENCES releases.releases
);

-- Units that a running canary has counted in its test of the share; emptied when it ends.
CREATE TABLE releases.seen_units (
    project text NOT NULL,
    release_id text NOT NULL,
    unit_hash text NOT NULL,
    PRIMARY KEY (project, release_id, unit_hash)
);

CREATE VIEW releases.models_v1 WITH (security_invoker = true) AS
SELECT project, model_id, kind, base, parent, gguf_digest, peft_digest, job_id, dataset_id,
       created_at, deleted_at
FROM releases.models;

CREATE VIEW releases.routes_v1 WITH (security_invoker = true) AS
SELECT w.project, w.workload_id, w.name, w.aliases,
       live.release_id AS live_release, live.model AS live_model,
       canary.release_id AS canary_release, canary.model AS canary_model,
       coalesce(canary.share, 0) AS canary_share, coalesce(canary.salt, live.salt) AS salt,
       w.policy ->> 'fallback_model' AS fallback_model,
       coalesce((w.policy ->> 'capture_content')::boolean, false) AS capture_content
FROM workloads.workloads_v1 w
JOIN releases.releases live
    ON live.project = w.project AND live.workload_id = w.workload_id AND live.state = 'live'
LEFT JOIN releases.releases canary
    ON canary.project = w.project AND canary.workload_id = w.workload_id
    AND canary.state = 'canary';
"""


def upgrade() -> None:
    open_schema("releases")
    op.execute(TABLES)
    protect("releases.models", grants="SELECT, INSERT, UPDATE")
    protect("releases.releases", grants="SELECT, INSERT, UPDATE")
    protect("releases.decisions", grants="SELECT, INSERT")
    append_only("releases.decisions")
    protect("releases.seen_units", grants="SELECT, INSERT, DELETE")
    op.execute("GRANT SELECT ON releases.models_v1, releases.routes_v1 TO app, spine")
    op.execute("GRANT SELECT ON releases.models, releases.releases TO spine")
