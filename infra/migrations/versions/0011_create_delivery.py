"""Create the tables of delivery."""

from infra.migrations.protection import open_schema

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    open_schema("delivery")
