"""Back-pressure: a project with too much unfinished work may not add to it for a while.

A route that leaves work behind takes `uow: Addition` in place of a `Creation`, or, with a unit of
its own, the parameter `room: Room`. What ends, undoes or shows work is never refused.
"""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from shared.db import UnitOfWork, Units
from shared.errors import QuotaExceeded
from shared.idempotency import Creation
from shared.keys import Caller
from shared.logging import get_logger
from shared.snapshots import Snapshot
from shared.spine.unfinished import full_projects

log = get_logger(__name__)

# A backlog at the limit takes minutes; the openai client waits as long as it is told, up to 60 s.
_RETRY_SECONDS = 10.0


class Backlogs:
    """The projects at the limit, in memory; served stale while Postgres is away."""

    def __init__(self, spine: Units, *, most: int, period_seconds: float) -> None:
        """
        Args:
            spine: Units of the role `spine`, which sees all projects.
            most: Unfinished deliveries from which a project is refused.
            period_seconds: Time between two counts; what is added meanwhile is beyond the limit.
        """
        self._most = most
        self._told: frozenset[str] = frozenset()
        self._full = Snapshot(
            spine, full_projects(most), self._noticed, period_seconds=period_seconds
        )
        self.start, self.stop = self._full.start, self._full.stop

    @property
    def count(self) -> int:
        """How many projects are refused now."""
        return len(self._full.value)

    def require_room(self, project: str) -> None:
        """
        Raises:
            QuotaExceeded: The project has too much unfinished work.
        """
        if project in self._full.value:
            raise QuotaExceeded(
                f"This project has {self._most} unfinished deliveries or more, so nothing is added "
                "to them now. Repeat later; if it lasts, ask the operator which queue stands.",
                code="too_much_unfinished",
                retry_after=_RETRY_SECONDS,
            )

    def _noticed(self, rows: list[tuple[object, ...]]) -> frozenset[str]:
        """The metric names no project, so the log does."""
        full = frozenset(str(row[0]) for row in rows)
        for project in sorted(full - self._told):
            log.warning("project_full", project=project, unfinished=self._most)
        for project in sorted(self._told - full):
            log.info("project_has_room", project=project)
        self._told = full
        return full


async def _require_room(request: Request) -> None:
    backlogs: Backlogs | None = getattr(request.app.state, "backlogs", None)
    if backlogs is not None:
        backlogs.require_room(cast("Caller", request.state.caller).project)


async def _addition(request: Request, uow: Creation) -> UnitOfWork:
    # A repetition that was carried out before has its answer by now; it adds nothing.
    await _require_room(request)
    return uow


# Both are declared after `authorised(...)`, which says whose project it is.
Room = Annotated[None, Depends(_require_room)]
Addition = Annotated[UnitOfWork, Depends(_addition)]
