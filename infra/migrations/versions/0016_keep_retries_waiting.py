"""A row that is due later is not begun, however many copies of its ringing are left."""

from alembic import op

revision = "0016"
down_revision = "0015"

_CLAIM = """
CREATE OR REPLACE FUNCTION spine.claim(wanted uuid, kept text[])
RETURNS TABLE (is_taken boolean, is_repeated boolean, id uuid, project text, queue text, task text,
               starts int, envelope jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    found_row spine.deliveries;
BEGIN
    DELETE FROM spine.deliveries WHERE id = (
        SELECT id FROM spine.deliveries
        WHERE id = wanted AND rings <= 1 AND task <> ALL (kept) {due} FOR UPDATE SKIP LOCKED)
    RETURNING * INTO found_row;
    is_taken := FOUND;
    IF NOT FOUND THEN
        SELECT * INTO found_row FROM spine.deliveries
        WHERE id = wanted {due} FOR UPDATE SKIP LOCKED;
    END IF;
    IF found_row.id IS NOT NULL THEN
        RETURN QUERY SELECT is_taken, found_row.rings > 1, found_row.id, found_row.project,
            found_row.queue, found_row.task, found_row.starts, found_row.envelope;
    END IF;
END $$;
"""

# Workers of 0.1.0 begin everything with it.
_BEGIN = """
CREATE OR REPLACE FUNCTION spine.begin(wanted uuid) RETURNS spine.deliveries
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE spine.deliveries SET starts = starts + CASE WHEN rings > 1 THEN 1 ELSE 0 END
    WHERE id = (SELECT id FROM spine.deliveries WHERE id = wanted {due} FOR UPDATE SKIP LOCKED)
    RETURNING *
$$;
"""


def upgrade() -> None:
    for function in (_CLAIM, _BEGIN):
        op.execute(function.format(due="AND due_at <= now()"))


def downgrade() -> None:
    for function in (_CLAIM, _BEGIN):
        op.execute(function.format(due=""))
