"""Answers the door remembers, so that a repeated id gets what the first one got."""

from __future__ import annotations

import asyncio

from services.inference.repository import door_answers
from services.inference.repository.door_answers import StoredAnswer
from shared.context import Context
from shared.db import Units
from shared.errors import Unavailable
from shared.ids import Project
from shared.logging import get_logger

_log = get_logger(__name__)


class Answers:
    """Stored answers of all projects. While Postgres is away there is no memory, but an answer."""

    def __init__(self, units: Units, spine: Units) -> None:
        """
        Args:
            units: Of the role `app`.
            spine: Of the role `spine`, for what is too old, whoever's it is.
        """
        self._units = units
        self._spine = spine

    async def find(self, project: Project, request_id: str) -> StoredAnswer | None:
        """What was answered to this id, if it is known."""
        try:
            return await asyncio.to_thread(self._find, project, request_id)
        except Unavailable as error:
            _log.warning("door_answer_unknown", reason=error.message)
            return None

    async def keep(self, project: Project, request_id: str, answer: StoredAnswer) -> StoredAnswer:
        """Remember an answer; the one to send is returned, for a twin may have been faster."""
        try:
            return await asyncio.to_thread(self._keep, project, request_id, answer)
        except Unavailable as error:
            _log.warning("door_answer_not_kept", reason=error.message)
            return answer

    async def forget_old(self, hours: float) -> None:
        """Delete what is older than *hours*."""
        try:
            await asyncio.to_thread(self._forget, hours)
        except Unavailable as error:
            _log.warning("door_answers_not_deleted", reason=error.message)

    def _find(self, project: Project, request_id: str) -> StoredAnswer | None:
        with self._units.open(Context.root(project, "process:door")) as uow:
            return door_answers.find(uow.session, request_id)

    def _keep(self, project: Project, request_id: str, answer: StoredAnswer) -> StoredAnswer:
        with self._units.open(Context.root(project, "process:door")) as uow:
            return door_answers.record(uow.session, project, request_id, answer)

    def _forget(self, hours: float) -> None:
        with self._spine.open(Context.root(Project(""), "process:door")) as uow:
            door_answers.delete_old(uow.session, hours)
