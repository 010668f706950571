"""Create the tables of drift."""

from infra.migrations.protection import open_schema

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    open_schema("drift")
