"""Evaluations compare a model with recorded answers of another one."""

from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    op.execute("""
        ALTER TABLE evaluation.evaluations ADD COLUMN recorded boolean NOT NULL DEFAULT false;
        -- Of a candidate's case: how near its answer is to the recorded one.
        ALTER TABLE evaluation.cases ADD COLUMN comparison jsonb;
    """)
