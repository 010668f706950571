"""Appends records until it is killed; a test runs it as a process and counts what arrives."""

from __future__ import annotations

import sys
from pathlib import Path

from records_to_store import make_record

from services.inference.records import StoredCompletion
from services.inference.spool import Spool


def main() -> None:
    """Print the id of each record after it was appended."""
    spool = Spool(Path(sys.argv[1]), segment_bytes=4096, max_bytes=1 << 30)
    while True:
        record = make_record()
        completion = {"id": record.request}
        spool.append(record, None, StoredCompletion("m", [], completion, None))
        sys.stdout.write(f"{record.request}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
