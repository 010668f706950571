"""Begin no row before it is due, and count the time until it is rung again from its start."""

from alembic import op

revision = "0016"
down_revision = "0015"

# The older `claim` stays while workers that call it are still running.
CLAIM = """
-- The row of a first ringing is deleted, for the effect follows in the same transaction. It is
-- kept when its task is one of *kept*, which call out before their last transaction, and when it
-- was rung before: then it may be what killed its worker, and the start has to outlive this one.
-- What is kept is due again in *again* seconds. Until then it is neither rung again nor buried,
-- and other copies of its ringing begin nothing beside it.
CREATE FUNCTION spine.claim(wanted uuid, kept text[], again double precision)
RETURNS TABLE (is_taken boolean, id uuid, project text, queue text, task text, starts int,
               envelope jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    found_row spine.deliveries;
BEGIN
    DELETE FROM spine.deliveries WHERE id = (
        SELECT id FROM spine.deliveries
        WHERE id = wanted AND rings <= 1 AND task <> ALL (kept) AND due_at <= now()
        FOR UPDATE SKIP LOCKED)
    RETURNING * INTO found_row;
    is_taken := FOUND;
    IF NOT FOUND THEN
        UPDATE spine.deliveries
        SET starts = starts + CASE WHEN rings > 1 THEN 1 ELSE 0 END,
            rung_at = clock_timestamp(),
            due_at = clock_timestamp() + make_interval(secs => again)
        WHERE id = (SELECT id FROM spine.deliveries
                    WHERE id = wanted AND due_at <= now() FOR UPDATE SKIP LOCKED)
        RETURNING * INTO found_row;
    END IF;
    IF found_row.id IS NOT NULL THEN
        RETURN QUERY SELECT is_taken, found_row.id, found_row.project, found_row.queue,
            found_row.task, found_row.starts, found_row.envelope;
    END IF;
END $$;
REVOKE EXECUTE ON FUNCTION spine.claim(uuid, text[], double precision) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION spine.claim(uuid, text[], double precision) TO app, spine;
"""

# Workers of 0.1.0 begin everything with it.
BEGIN = """
CREATE OR REPLACE FUNCTION spine.begin(wanted uuid) RETURNS spine.deliveries
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE spine.deliveries
    SET starts = starts + CASE WHEN rings > 1 THEN 1 ELSE 0 END, rung_at = clock_timestamp()
    WHERE id = (SELECT id FROM spine.deliveries
                WHERE id = wanted AND due_at <= now() FOR UPDATE SKIP LOCKED)
    RETURNING *
$$;
"""

BEGIN_BEFORE = """
CREATE OR REPLACE FUNCTION spine.begin(wanted uuid) RETURNS spine.deliveries
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE spine.deliveries SET starts = starts + CASE WHEN rings > 1 THEN 1 ELSE 0 END
    WHERE id = (SELECT id FROM spine.deliveries WHERE id = wanted FOR UPDATE SKIP LOCKED)
    RETURNING *
$$;
"""


def upgrade() -> None:
    op.execute(CLAIM)
    op.execute(BEGIN)


def downgrade() -> None:
    op.execute(BEGIN_BEFORE)
    op.execute("DROP FUNCTION spine.claim(uuid, text[], double precision)")
