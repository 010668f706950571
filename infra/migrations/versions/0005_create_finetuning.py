"""Create the tables of finetuning."""

from infra.migrations.protection import open_schema

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    open_schema("finetuning")
