"""Create the tables of inference: records by day, contents, answers of the queue door."""

from alembic import op

from infra.migrations.protection import append_only, open_schema, protect

revision = "0008"
down_revision = "0007"

TABLES = """
-- The day of a record is the day inside its UUIDv7, so the same record always finds itself again.
CREATE TABLE inference.records (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    project text NOT NULL,
    request uuid NOT NULL,
    inference_id text NOT NULL,
    workload_id text,
    assigned_release text,
    arm text NOT NULL CHECK (arm IN ('live', 'canary', 'none')),
    model text NOT NULL,
    status text NOT NULL CHECK (status IN ('ok', 'error')),
    error_code text,
    fallback boolean NOT NULL,
    cached boolean NOT NULL,
    latency_ms double precision NOT NULL,
    input_tokens int NOT NULL,
    output_tokens int NOT NULL,
    unit_hash text NOT NULL,
    door text NOT NULL CHECK (door IN ('http', 'queue')),
    boot uuid NOT NULL,
    counter bigint NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (project, request, created_at)
) PARTITION BY RANGE (created_at);
CREATE INDEX records_feed ON inference.records (project, xid, seq);
CREATE INDEX records_boot ON inference.records (boot, counter);
-- Only for clocks that are far off; see ensure_day.
CREATE TABLE inference.records_other PARTITION OF inference.records DEFAULT;

CREATE TABLE inference.contents (
    project text NOT NULL,
    inference_id text NOT NULL,
    workload_id text NOT NULL,
    messages jsonb NOT NULL,
    answer text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (project, inference_id)
);
CREATE INDEX contents_workload ON inference.contents (project, workload_id, created_at);

CREATE TABLE inference.door_answers (
    project text NOT NULL,
    id text NOT NULL,
    fingerprint text NOT NULL,
    answer jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project, id)
) WITH (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX door_answers_age ON inference.door_answers (created_at);
"""

VIEWS = """
CREATE VIEW inference.records_v1 WITH (security_invoker = true) AS
SELECT xid, seq, project, inference_id, request, workload_id, assigned_release, arm, model, status,
       error_code, fallback, cached, latency_ms, input_tokens, output_tokens, unit_hash, door,
       created_at
FROM inference.records;

CREATE VIEW inference.contents_v1 WITH (security_invoker = true) AS
SELECT project, inference_id, workload_id, messages, answer, created_at FROM inference.contents;

-- Each process numbers its records from 0: what is missing below the highest number was lost, or is
-- still in a spool.
CREATE VIEW inference.record_gaps_v1 WITH (security_invoker = true) AS
SELECT boot, max(counter) + 1 AS written, count(*) AS stored, max(counter) + 1 - count(*) AS missing,
       max(created_at) AS last_at
FROM inference.records GROUP BY boot;
"""

# Shippers run as `spine`, which may not create tables. Days far from now are refused, so that a
# wrong clock cannot fill the catalogue; their rows go to the default partition.
ENSURE_DAY = """
CREATE FUNCTION inference.ensure_day(day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    name text := 'records_' || to_char(day, 'YYYYMMDD');
BEGIN
    IF day NOT BETWEEN current_date - 35 AND current_date + 2 THEN
        RETURN false;
    END IF;
    IF to_regclass('inference.' || name) IS NOT NULL THEN
        RETURN true;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('inference.ensure_day'));
    EXECUTE format(
        'CREATE TABLE IF NOT EXISTS inference.%I PARTITION OF inference.records '
        'FOR VALUES FROM (%L) TO (%L)', name, day || ' 00:00+00', (day + 1) || ' 00:00+00');
    RETURN true;
EXCEPTION
    -- The default partition holds rows of that day already, from a clock that ran ahead.
    WHEN check_violation THEN RETURN false;
END $$;
"""


def upgrade() -> None:
    open_schema("inference")
    op.execute(TABLES)
    op.execute(VIEWS)
    op.execute(ENSURE_DAY)
    protect("inference.records", grants="SELECT")
    protect("inference.contents", grants="SELECT, DELETE")
    protect("inference.door_answers", grants="SELECT, INSERT, DELETE")
    append_only("inference.records")
    op.execute("REVOKE EXECUTE ON FUNCTION inference.ensure_day(date) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION inference.ensure_day(date) TO spine")
    op.execute("GRANT SELECT, INSERT ON inference.records, inference.contents TO spine")
    op.execute("GRANT SELECT, DELETE ON inference.door_answers TO spine")
    op.execute("GRANT SELECT ON inference.records_v1, inference.contents_v1 TO app, spine")
    op.execute("GRANT SELECT ON inference.record_gaps_v1 TO spine")
