"""Create the spine: deliveries, leases, schedules, dead letters, events, audit entries."""

from alembic import op

from infra.migrations.protection import append_only, open_schema, protect

revision = "0001"
down_revision = None

TABLES = """
CREATE TABLE spine.deliveries (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    id uuid PRIMARY KEY,
    project text NOT NULL,
    queue text NOT NULL,
    task text NOT NULL,
    envelope jsonb NOT NULL,
    lane text,
    key text,
    due_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    rung_at timestamptz,
    rings int NOT NULL DEFAULT 0,
    starts int NOT NULL DEFAULT 0,
    last_error text
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0);
CREATE INDEX deliveries_due ON spine.deliveries (queue, project, due_at, seq);
CREATE INDEX deliveries_rung ON spine.deliveries (queue, project) WHERE rung_at IS NOT NULL;
CREATE INDEX deliveries_repeated ON spine.deliveries (starts) WHERE starts > 0;
CREATE INDEX deliveries_lane ON spine.deliveries (task, lane, seq) WHERE lane IS NOT NULL;
-- While a keyed delivery is unfinished, another with its key is dropped by the insert.
CREATE UNIQUE INDEX deliveries_key ON spine.deliveries (project, task, key) WHERE key IS NOT NULL;

CREATE TABLE spine.dead_letters (
    id uuid PRIMARY KEY,
    project text NOT NULL,
    queue text NOT NULL,
    task text NOT NULL,
    envelope jsonb NOT NULL,
    lane text,
    reason text NOT NULL,
    starts int NOT NULL,
    last_error text,
    created_at timestamptz NOT NULL,
    buried_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX dead_letters_project ON spine.dead_letters (project, buried_at);

CREATE TABLE spine.leases (
    kind text NOT NULL,
    subject text NOT NULL,
    project text NOT NULL,
    owner text,
    until timestamptz,
    fence bigint NOT NULL DEFAULT 0,
    attempts int NOT NULL DEFAULT 0,
    offered_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, subject)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 500);

CREATE TABLE spine.schedules (
    project text NOT NULL,
    type text NOT NULL,
    subject text NOT NULL,
    envelope jsonb NOT NULL,
    every interval NOT NULL,
    due_at timestamptz NOT NULL,
    PRIMARY KEY (project, type, subject)
);
CREATE INDEX schedules_due ON spine.schedules (due_at);

CREATE TABLE spine.events (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    id text PRIMARY KEY,
    project text NOT NULL,
    type text NOT NULL,
    envelope jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX events_feed ON spine.events (project, xid, seq);

CREATE TABLE spine.audit_entries (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    id uuid PRIMARY KEY,
    project text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    reason text NOT NULL,
    facts jsonb NOT NULL,
    correlation_id text NOT NULL,
    causation_id text NOT NULL
);
CREATE INDEX audit_entries_project ON spine.audit_entries (project, seq);
CREATE INDEX audit_entries_subject ON spine.audit_entries (project, subject);

CREATE FUNCTION spine.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
"""

# Workers act for one project at a time and learn which one from the row they take. These
# functions run with the rights of the owner and touch one row by id.
FUNCTIONS = """
CREATE FUNCTION spine.take(wanted uuid) RETURNS spine.deliveries
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM spine.deliveries
    WHERE id = (SELECT id FROM spine.deliveries WHERE id = wanted FOR UPDATE SKIP LOCKED)
    RETURNING *
$$;

-- A second ringing records that an earlier one was started: what kills its worker is counted.
CREATE FUNCTION spine.begin(wanted uuid) RETURNS spine.deliveries
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE spine.deliveries SET starts = starts + CASE WHEN rings > 1 THEN 1 ELSE 0 END
    WHERE id = (SELECT id FROM spine.deliveries WHERE id = wanted FOR UPDATE SKIP LOCKED)
    RETURNING *
$$;

CREATE FUNCTION spine.defer(wanted uuid, seconds double precision, error text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE spine.deliveries
    SET due_at = now() + make_interval(secs => seconds), rung_at = NULL, rings = 0,
        starts = starts + 1, last_error = error
    WHERE id = wanted
$$;

CREATE FUNCTION spine.bury(wanted uuid, why text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH gone AS (DELETE FROM spine.deliveries WHERE id = wanted RETURNING *)
    INSERT INTO spine.dead_letters
        (id, project, queue, task, envelope, lane, reason, starts, last_error, created_at)
    SELECT id, project, queue, task, envelope, lane, why, starts, last_error, created_at FROM gone
$$;

CREATE FUNCTION spine.renew(k text, s text, f bigint, seconds double precision) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH held AS (
        UPDATE spine.leases SET until = clock_timestamp() + make_interval(secs => seconds)
        WHERE kind = k AND subject = s AND fence = f AND owner IS NOT NULL RETURNING 1)
    SELECT EXISTS (SELECT FROM held)
$$;

-- The row lock keeps a takeover waiting until the guarded transaction ends.
CREATE FUNCTION spine.guard(k text, s text, f bigint) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH held AS (
        SELECT 1 FROM spine.leases WHERE kind = k AND subject = s AND fence = f FOR UPDATE)
    SELECT EXISTS (SELECT FROM held)
$$;

CREATE FUNCTION spine.withdraw(k text, s text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM spine.leases WHERE kind = k AND subject = s
$$;
"""


def upgrade() -> None:
    open_schema("spine")
    op.execute(TABLES)
    op.execute(FUNCTIONS)
    protect("spine.deliveries", grants="SELECT, INSERT")
    protect("spine.dead_letters", grants="SELECT")
    protect("spine.leases", grants="SELECT, INSERT")
    protect("spine.schedules")
    protect("spine.events", grants="SELECT, INSERT")
    protect("spine.audit_entries", grants="SELECT, INSERT")
    append_only("spine.audit_entries")
    op.execute("REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA spine FROM PUBLIC")
    op.execute("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA spine TO app, spine")
    # The spine role rings for all projects (BYPASSRLS) and reads the logs.
    op.execute(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON spine.deliveries, spine.dead_letters, "
        "spine.leases, spine.schedules TO spine"
    )
    op.execute("GRANT SELECT ON spine.events, spine.audit_entries TO spine")
