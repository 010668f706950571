"""`python -m infra.migrations`: upgrade the database named by PERPETUNE_DATABASE_OWNER_URL."""

from __future__ import annotations

import os
import sys

from infra.migrations import upgrade

if __name__ == "__main__":
    url = os.environ.get("PERPETUNE_DATABASE_OWNER_URL")
    if not url:
        sys.exit("Set PERPETUNE_DATABASE_OWNER_URL to the owner's database URL.")
    upgrade(url)
