"""Take a row in the transaction of its effect, and give back what a message rings besides.

No row is begun before it is due, and the time until it is rung again counts from its start.
"""

from alembic import op

revision = "0014"
down_revision = "0013"

# `take` and `begin` stay: workers of 0.1.0 call them while newer ones run beside them.
FUNCTIONS = """
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

-- Workers of 0.1.0 begin everything with it.
CREATE OR REPLACE FUNCTION spine.begin(wanted uuid) RETURNS spine.deliveries
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE spine.deliveries
    SET starts = starts + CASE WHEN rings > 1 THEN 1 ELSE 0 END, rung_at = clock_timestamp()
    WHERE id = (SELECT id FROM spine.deliveries
                WHERE id = wanted AND due_at <= now() FOR UPDATE SKIP LOCKED)
    RETURNING *
$$;

-- As if they had not been rung. What was rung again meanwhile is another message's.
CREATE FUNCTION spine.give_back(unanswered uuid[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE spine.deliveries SET rung_at = NULL, rings = 0
    WHERE id IN (SELECT id FROM spine.deliveries
                 WHERE id = ANY (unanswered) AND rings = 1 FOR UPDATE SKIP LOCKED)
$$;
"""


def upgrade() -> None:
    op.execute(FUNCTIONS)
    for function in ("claim(uuid, text[], double precision)", "give_back(uuid[])"):
        op.execute(f"REVOKE EXECUTE ON FUNCTION spine.{function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION spine.{function} TO app, spine")
