"""Create the tables of releases."""

from infra.migrations.protection import open_schema

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    open_schema("releases")
