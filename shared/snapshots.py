"""Snapshots: what every process must know, copied into memory every half second.

A snapshot is served stale while Postgres is away; its age is known.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from sqlalchemy import TextClause
from sqlalchemy.exc import SQLAlchemyError

from shared.context import Context
from shared.db import Units
from shared.errors import Unavailable
from shared.ids import Project
from shared.logging import get_logger

log = get_logger(__name__)
T = TypeVar("T")

# Unknown names may come from anybody; they cannot make us query more often than this.
_SOON_SECONDS = 0.05


class Snapshot(Generic[T]):
    """A value read by one query and refreshed by a thread of its own."""

    def __init__(
        self,
        units: Units,
        query: TextClause,
        build: Callable[[list[tuple[object, ...]]], T],
        *,
        period_seconds: float,
    ) -> None:
        """
        Args:
            units: Of the role `spine`, which sees all projects.
            query: Reads the rows; a constant.
            build: Pure function from rows to the value.
            period_seconds: Time between refreshes.
        """
        self._units = units
        self._query = query
        self._build = build
        self._period = period_seconds
        self._lock = threading.Lock()
        self._soon = threading.Lock()
        self._stop = threading.Event()
        self._read_at = float("-inf")
        self.value: T = build([])

    @property
    def age_seconds(self) -> float:
        """Seconds since the last successful read began; infinite before the first."""
        return time.monotonic() - self._read_at

    def start(self) -> None:
        """Read once, then keep refreshing in the background until `stop`."""
        self.refresh()
        threading.Thread(target=self._keep_fresh, name="snapshot", daemon=True).start()

    def stop(self) -> None:
        """End the background refresh."""
        self._stop.set()

    def refresh(self) -> None:
        """
        Read now.

        Raises:
            Unavailable: Postgres does not answer; the old value stays.
        """
        with self._lock, self._units.open(Context.root(Project(""), "process:snapshot")) as uow:
            began = time.monotonic()
            rows = [tuple(row) for row in uow.session.execute(self._query)]
            self.value = self._build(rows)
            self._read_at = began

    def refresh_soon(self) -> None:
        """
        Return once a read that began after this call has ended; callers share it.

        Waits up to 50 ms, so never on an event loop. The old value stays if Postgres is away.
        """
        asked = time.monotonic()
        with self._soon:
            if self._read_at > asked:
                return
            time.sleep(max(0.0, _SOON_SECONDS - self.age_seconds))
            self._refresh_or_stay()

    def _keep_fresh(self) -> None:
        while not self._stop.wait(self._period):
            self._refresh_or_stay()

    def _refresh_or_stay(self) -> None:
        """A broken query is as bad as a lost database, and neither may end the refreshing."""
        try:
            self.refresh()
        except (Unavailable, SQLAlchemyError) as error:
            log.warning(
                "snapshot_stale",
                error=type(error).__name__,
                age_seconds=round(self.age_seconds, 1),
            )
