"""Create the tables of feedback."""

from infra.migrations.protection import open_schema

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    open_schema("feedback")
