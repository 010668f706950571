"""A workload's aliases can be given up."""

from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.execute("GRANT DELETE ON workloads.aliases TO app")
