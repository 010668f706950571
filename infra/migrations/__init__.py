"""The one migration history of all rooms: `upgrade(owner_url)` brings a database up to date.

Roles `app` and `spine` must exist. Migrations are compatible with the release still running.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config


def upgrade(owner_url: str, revision: str = "head") -> None:
    """
    Run all outstanding migrations under one advisory lock.

    Args:
        owner_url: `postgresql+psycopg://...` of the role that owns the schemas.
        revision: Target revision.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["url"] = owner_url
    command.upgrade(config, revision)
