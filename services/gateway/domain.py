"""Who may grant what, and for how long. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from shared.errors import Forbidden, Invalid
from shared.scopes import SCOPES


def check_grant(wanted: Iterable[str], held: frozenset[str]) -> frozenset[str]:
    """
    The scopes of a new key.

    Args:
        wanted: Scopes asked for.
        held: Scopes of the key that asks.

    Raises:
        Invalid: A scope does not exist, or none is asked for.
        Forbidden: The asking key lacks one of them.
    """
    scopes = frozenset(wanted)
    if not scopes:
        raise Invalid("A key needs at least one scope.", code="no_scopes", param="scopes")
    if unknown := sorted(scopes - SCOPES):
        raise Invalid(
            f"There is no scope {', '.join(unknown)}. Scopes are: {', '.join(sorted(SCOPES))}.",
            code="unknown_scope",
            param="scopes",
        )
    if lacking := sorted(scopes - held):
        raise Forbidden(
            f"This key lacks {', '.join(lacking)} and cannot grant what it does not have.",
            code="scope_not_held",
            param="scopes",
        )
    return scopes


def expiry(now: datetime, days: int | None) -> datetime | None:
    """When a key made *now* for *days* ends; None never does."""
    return None if days is None else now + timedelta(days=days)
