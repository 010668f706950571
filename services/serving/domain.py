"""Who leaves when there is no room, and how long a child that died waits before it starts again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

_FIRST_DELAY_SECONDS = 0.25
_LONGEST_DELAY_SECONDS = 10.0
# A child that answered this long was sound; its death is a new matter, not the next of a series.
_SOUND_SECONDS = 60.0


class State(StrEnum):
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    DRAINING = "draining"
    GONE = "gone"


@dataclass(frozen=True)
class Seat:
    """
    A resident model as eviction sees it.

    Attributes:
        model: Id of the model.
        is_pinned: It must stay.
        is_settled: It is not just being started for a caller who waits.
        running: Requests it is working on or holds in its queue.
        last_used: Monotonic seconds of its last observed use.
    """

    model: str
    is_pinned: bool
    is_settled: bool
    running: int
    last_used: float


def choose_victim(seats: Iterable[Seat]) -> Seat | None:
    """The seat to free: idle before busy, then least recently used; None when nobody may go."""
    candidates = [seat for seat in seats if seat.is_settled and not seat.is_pinned]
    return min(
        candidates, key=lambda seat: (seat.running > 0, seat.last_used, seat.model), default=None
    )


def count_crash(crashes: int, lived_seconds: float) -> int:
    """Deaths in a row after one more, of a child that had answered for *lived_seconds*."""
    return 1 if lived_seconds >= _SOUND_SECONDS else crashes + 1


def restart_delay(crashes: int) -> float:
    """Seconds to wait after *crashes* deaths in a row: none after one, then doubling to 10."""
    if crashes <= 1:
        return 0.0
    # The exponent is bounded so that a child that never comes back cannot overflow the float.
    return min(_LONGEST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2.0 ** min(crashes - 2, 16))


def route_prefix(model: str, base: str, adapter: str | None) -> str:
    """
    Path under which a child answers, the same after every restart.

    A port that was freed may be given to another model's child. A caller with the old address then
    gets 404 and loads again, where without the prefix it would get another model's answer.
    """
    identity = "\0".join((model, base, adapter or ""))
    return f"/m/{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
