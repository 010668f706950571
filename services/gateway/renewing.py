"""Moves API keys to the pepper in use, soon after they were used: nobody else knows them whole."""

from __future__ import annotations

import threading

from sqlalchemy.exc import SQLAlchemyError

from services.gateway import service
from shared.context import Context
from shared.db import Units
from shared.errors import Unavailable
from shared.keys import KeyRing, Outdated
from shared.logging import get_logger

log = get_logger(__name__)

_SECONDS = 1.0


class Renewing:
    """A thread beside the requests, which never wait for it."""

    def __init__(self, units: Units, keys: KeyRing) -> None:
        """
        Args:
            units: Of the role `app`.
            keys: Notes which keys are used and stored under another pepper.
        """
        self._units = units
        self._keys = keys
        self._stop = threading.Event()

    def start(self) -> None:
        """Renew once a second until `stop`."""
        threading.Thread(target=self._keep_renewing, name="renewing", daemon=True).start()

    def stop(self) -> None:
        """End it."""
        self._stop.set()

    def round(self) -> int:
        """
        Renew what was used since the last round; returns how many keys were changed.

        Raises:
            Unavailable: Postgres is away; a key that is used again is noted again.
        """
        return sum(self._renewed(found) for found in self._keys.take_outdated())

    def _renewed(self, found: Outdated) -> bool:
        context = Context.root(found.stored.project, "process:gateway")
        with self._units.open(context) as uow:
            return service.renew_key(uow, found)

    def _keep_renewing(self) -> None:
        while not self._stop.wait(_SECONDS):
            try:
                renewed = self.round()
            except (Unavailable, SQLAlchemyError) as error:
                log.warning("keys_not_renewed", error=type(error).__name__)
            else:
                if renewed:
                    log.info("keys_renewed", count=renewed)
