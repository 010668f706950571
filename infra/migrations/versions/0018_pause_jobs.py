"""Jobs can be paused: their lease is shelved, so that nobody holds it and nobody claims it."""

from alembic import op

revision = "0018"
down_revision = "0017"

# The row stays, and with it the fence: were the lease offered anew, fences would begin again, and a
# process that slept through the pause could write under an old one.
FUNCTIONS = """
CREATE FUNCTION spine.lock_lease(k text, s text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT FROM spine.leases WHERE kind = k AND subject = s FOR UPDATE
$$;
CREATE FUNCTION spine.shelve(k text, s text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE spine.leases SET owner = NULL, fence = fence + 1, until = 'infinity'
    WHERE kind = k AND subject = s
$$;
CREATE FUNCTION spine.unshelve(k text, s text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE spine.leases SET until = NULL
    WHERE kind = k AND subject = s AND until = 'infinity'
$$;
"""

STATES = """
ALTER TABLE finetuning.jobs DROP CONSTRAINT jobs_state_check;
ALTER TABLE finetuning.jobs ADD CONSTRAINT jobs_state_check CHECK (state IN
    ('validating_files', 'queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled'));
"""


def upgrade() -> None:
    op.execute(FUNCTIONS)
    for function in ("lock_lease", "shelve", "unshelve"):
        op.execute(f"REVOKE EXECUTE ON FUNCTION spine.{function}(text, text) FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION spine.{function}(text, text) TO app, spine")
    op.execute(STATES)
