"""The delivery process, knowing the suite's messages as well: `python tests/faults/delivery.py`."""

from __future__ import annotations

import sys

from services.delivery.process import main
from tests.faults import probes

__all__ = ["probes"]

if __name__ == "__main__":
    sys.exit(main())
