"""Create the tables of ingestion."""

from infra.migrations.protection import open_schema

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    open_schema("ingestion")
