"""Who calls in a test of the room."""

from __future__ import annotations

from shared.context import Context
from shared.ids import Project
from shared.keys import StoredKey, mac_of
from shared.scopes import SCOPES

KEY = "ppt_abcdefghij_" + "a" * 43
PROJECT = Context.root(Project("default"), "test")


class OneKey:
    """The key ring's snapshot with one key in it."""

    def __init__(self) -> None:
        stored = StoredKey("abcdefghij", Project("default"), mac_of(KEY, "pepper"), SCOPES, None)
        self.value = {stored.key_id: stored}

    def refresh_soon(self) -> None:
        """Nothing newer exists."""
