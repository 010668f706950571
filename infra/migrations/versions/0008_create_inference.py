"""Create the tables of inference."""

from infra.migrations.protection import open_schema

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    open_schema("inference")
