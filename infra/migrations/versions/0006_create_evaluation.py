"""Create the tables of evaluation."""

from infra.migrations.protection import open_schema

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    open_schema("evaluation")
