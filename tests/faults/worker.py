"""The worker of all rooms with the suite's tasks more: `python tests/faults/worker.py`.

A file to run, not a module: a spawned child imports it again and so learns the tasks.
"""

from __future__ import annotations

from shared.worker import main
from tests.faults import probes

__all__ = ["probes"]

if __name__ == "__main__":
    main()
