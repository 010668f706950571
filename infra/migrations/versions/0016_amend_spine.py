"""A dead letter tells all its attempts, the last one too; leases that ran out are counted.

And a delivery is found by its index, whatever the statistics say.
"""

from alembic import op

from infra.migrations.protection import protect

revision = "0016"
down_revision = "0015"

TABLES = """
CREATE TABLE spine.lease_expiries (
    project text NOT NULL,
    kind text NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (project, kind)
);
"""

# That with two arguments stays: workers of 0.1.0 call it while newer ones run beside them.
FUNCTIONS = """
CREATE FUNCTION spine.bury(wanted uuid, why text, attempts int) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH gone AS (DELETE FROM spine.deliveries WHERE id = wanted RETURNING *)
    INSERT INTO spine.dead_letters
        (id, project, queue, task, envelope, lane, reason, starts, last_error, created_at)
    SELECT id, project, queue, task, envelope, lane, why, attempts, last_error, created_at
    FROM gone
$$;
"""

# A plan is kept, and one made while the table was empty would read all of a backlog for each row.
BY_INDEX = (
    "claim(uuid, text[], double precision)",
    "take(uuid)",
    "begin(uuid)",
    "give_back(uuid[])",
    "defer(uuid, double precision, text)",
    "bury(uuid, text)",
    "bury(uuid, text, int)",
)


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(FUNCTIONS)
    for function in BY_INDEX:
        op.execute(f"ALTER FUNCTION spine.{function} SET enable_seqscan = off")
    protect("spine.lease_expiries", grants="SELECT")
    op.execute("GRANT SELECT, INSERT, UPDATE ON spine.lease_expiries TO spine")
    op.execute("REVOKE EXECUTE ON FUNCTION spine.bury(uuid, text, int) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION spine.bury(uuid, text, int) TO app, spine")
