"""Sealing the audit logs, as far as there is a key to sign them with."""

from __future__ import annotations

from collections.abc import Callable

from shared.audit.sealing import Sealer
from shared.errors import Invalid, Missing
from shared.logging import get_logger

log = get_logger(__name__)


class Sealing:
    """Seals once there is a key; without one the other chores go on and the log says why."""

    def __init__(self, make_sealer: Callable[[], Sealer]) -> None:
        self._make_sealer = make_sealer
        self._sealer: Sealer | None = None
        self._is_reported = False

    def round(self) -> int:
        """How many entries were sealed."""
        sealer = self._sealer or self._made()
        return sealer.seal_all() if sealer else 0

    def _made(self) -> Sealer | None:
        try:
            self._sealer = self._make_sealer()
        except (Missing, Invalid) as error:
            if not self._is_reported:
                log.warning("audit_not_sealed", reason=error.message)
            self._is_reported = True
        return self._sealer
