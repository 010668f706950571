"""`python -m services.delivery`: run until SIGTERM."""

from __future__ import annotations

import sys

from services.delivery.process import main

if __name__ == "__main__":
    sys.exit(main())
