"""What releases need from the world."""

from __future__ import annotations

from typing import Protocol


class Serving(Protocol):
    """The model server."""

    def load(
        self, model: str, *, base: str, adapter: str | None = None, pinned: bool | None = None
    ) -> object:
        """
        Make *model* resident and wait until it answers.

        Args:
            model: Its id.
            base: Name of the base.
            adapter: Path of a GGUF adapter; None for the base itself.
            pinned: Whether it stays when room is needed.

        Raises:
            Invalid, Missing: The model cannot be loaded, ever.
            Unavailable: Not now.
        """

    def unload(self, model: str) -> None:
        """Let go of a model; one that is not resident is no error."""
