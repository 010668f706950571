"""Create the tables of workloads."""

from infra.migrations.protection import open_schema

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    open_schema("workloads")
