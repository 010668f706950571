"""Names of the queue door's keys in Redis."""

from __future__ import annotations

from dataclasses import dataclass

from services.inference.door.messages import queue_of


@dataclass(frozen=True, slots=True)
class DoorKeys:
    """
    Every key the doors share.

    Attributes:
        prefix: Before every key, as in the senders' `global_keyprefix`.
    """

    prefix: str

    def queue(self, project: str) -> str:
        """List of what waits, the oldest at its right end."""
        return f"{self.prefix}{queue_of(project)}"

    def reply(self, queue: str) -> str:
        """List from which a sender reads its answer."""
        return f"{self.prefix}{queue}"

    def alive(self, door: str) -> str:
        """Exists while a door is heard of."""
        return f"{self._own}alive:{door}"

    def taken(self, holding: str) -> str:
        """List of what a door has taken of a project and not answered, the newest at its left."""
        return f"{self._own}taken:{holding}"

    def holding(self, taken: str) -> str:
        """The holding, `door:project`, whose list this is."""
        return taken.removeprefix(self.taken(""))

    @property
    def holdings(self) -> str:
        """Set of all holdings."""
        return f"{self._own}holdings"

    def suspects(self, project: str) -> str:
        """List of messages that were in hand whenever doors died."""
        return f"{self._own}suspects:{project}"

    @property
    def tried(self) -> str:
        """Hash of the one suspect being served: its `door` and its `message`."""
        return f"{self._own}tried"

    @property
    def restored(self) -> str:
        """Stem of the counters of how often a message was put back."""
        return f"{self._own}restored:"

    @property
    def convicted(self) -> str:
        """Stem of the counters of how often a door died while it tried a suspect."""
        return f"{self._own}convicted:"

    @property
    def dead(self) -> str:
        """List of messages that nobody can answer, on their way to Postgres."""
        return f"{self._own}dead_letters"

    @property
    def _own(self) -> str:
        return f"{self.prefix}inference.door:"
