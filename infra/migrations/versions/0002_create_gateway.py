"""Create the tables of gateway."""

from infra.migrations.protection import open_schema

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    open_schema("gateway")
