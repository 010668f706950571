"""Models have an end, which is announced."""

from alembic import op

from infra.migrations.protection import append_only, protect

revision = "0025"
down_revision = "0024"

TABLES = """
-- The name may be of a base, of a tuned model, or of one that is served elsewhere.
CREATE TABLE releases.retirements (
    project text NOT NULL,
    model text NOT NULL,
    shutdown_date date NOT NULL,
    PRIMARY KEY (project, model)
);

-- What was announced stays, so that it is not said again when a date is taken back and set anew.
CREATE TABLE releases.retirement_announcements (
    project text NOT NULL,
    model text NOT NULL,
    shutdown_date date NOT NULL,
    step_days int NOT NULL CHECK (step_days > 0),
    announced_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project, model, shutdown_date, step_days)
);
"""


def upgrade() -> None:
    op.execute(TABLES)
    protect("releases.retirements")
    protect("releases.retirement_announcements", grants="SELECT, INSERT")
    append_only("releases.retirement_announcements")
