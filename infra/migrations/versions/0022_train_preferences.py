"""Jobs have a method: supervised, or dpo for preferences."""

from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.execute("""
        ALTER TABLE finetuning.jobs ADD COLUMN method text NOT NULL DEFAULT 'supervised'
            CHECK (method IN ('supervised', 'dpo'))
    """)
