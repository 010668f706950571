"""Create the tables of drift: monitors and alerts."""

from alembic import op

from infra.migrations.protection import append_only, open_schema, protect

revision = "0010"
down_revision = "0009"

TABLES = """
CREATE TABLE drift.monitors (
    project text NOT NULL,
    monitor_id text NOT NULL,
    workload_id text NOT NULL,
    release_id text NOT NULL,
    metric text NOT NULL CHECK (metric IN ('failure', 'latency_ms', 'tokens')),
    state text NOT NULL CHECK (state IN ('baseline', 'watching', 'alarmed', 'closed')),
    policy_version int NOT NULL,
    detector jsonb NOT NULL,
    -- Where the monitor began in its feed, and how far it has folded it.
    start text NOT NULL,
    cursor text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz,
    PRIMARY KEY (project, monitor_id)
);
-- One live release per workload, so one monitor per metric.
CREATE UNIQUE INDEX monitors_open ON drift.monitors (project, workload_id, metric)
    WHERE state <> 'closed';
CREATE INDEX monitors_release ON drift.monitors (project, release_id, metric, monitor_id);

CREATE TABLE drift.alerts (
    project text NOT NULL,
    alert_id text NOT NULL,
    monitor_id text NOT NULL,
    workload_id text NOT NULL,
    release_id text NOT NULL,
    metric text NOT NULL,
    policy_version int NOT NULL,
    evidence jsonb NOT NULL,
    cursor text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project, alert_id),
    UNIQUE (project, monitor_id),
    FOREIGN KEY (project, monitor_id) REFERENCES drift.monitors
);
"""


def upgrade() -> None:
    open_schema("drift")
    op.execute(TABLES)
    protect("drift.monitors", grants="SELECT, INSERT, UPDATE")
    protect("drift.alerts", grants="SELECT, INSERT")
    append_only("drift.alerts")
