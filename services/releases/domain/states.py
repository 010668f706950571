"""The life cycle of a release as one table."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType

from shared.errors import Conflict


class ReleaseState(StrEnum):
    CANDIDATE = "candidate"
    GATED = "gated"  # has a passing verdict, or a recorded override
    CANARY = "canary"
    LIVE = "live"
    SUPERSEDED = "superseded"
    ROLLED_BACK = "rolled_back"
    FROZEN = "frozen"  # nothing happens by itself; a person decides


class ReleaseAction(StrEnum):
    GATE = "gate"
    START_CANARY = "start_canary"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"
    FREEZE = "freeze"  # a canary without a verdict, or by hand
    THAW = "thaw"
    SUPERSEDE = "supersede"  # the successor became live
    RESTORE = "restore"  # the successor was rolled back


# Promoting a gated release directly is for a workload's first release, which has no control.
TRANSITIONS = MappingProxyType(
    {
        (ReleaseState.CANDIDATE, ReleaseAction.GATE): ReleaseState.GATED,
        (ReleaseState.GATED, ReleaseAction.START_CANARY): ReleaseState.CANARY,
        (ReleaseState.GATED, ReleaseAction.PROMOTE): ReleaseState.LIVE,
        (ReleaseState.GATED, ReleaseAction.FREEZE): ReleaseState.FROZEN,
        (ReleaseState.CANARY, ReleaseAction.PROMOTE): ReleaseState.LIVE,
        (ReleaseState.CANARY, ReleaseAction.ROLL_BACK): ReleaseState.ROLLED_BACK,
        (ReleaseState.CANARY, ReleaseAction.FREEZE): ReleaseState.FROZEN,
        (ReleaseState.FROZEN, ReleaseAction.THAW): ReleaseState.GATED,
        (ReleaseState.FROZEN, ReleaseAction.ROLL_BACK): ReleaseState.ROLLED_BACK,
        (ReleaseState.LIVE, ReleaseAction.SUPERSEDE): ReleaseState.SUPERSEDED,
        (ReleaseState.LIVE, ReleaseAction.ROLL_BACK): ReleaseState.ROLLED_BACK,
        (ReleaseState.SUPERSEDED, ReleaseAction.RESTORE): ReleaseState.LIVE,
    }
)


def next_state(state: ReleaseState, action: ReleaseAction) -> ReleaseState:
    """
    The state after an action.

    Raises:
        Conflict: The action is not legal in this state; the message lists those that are.
    """
    after = TRANSITIONS.get((state, action))
    if after is None:
        legal = ", ".join(a for s, a in TRANSITIONS if s is state) or "none; it is final"
        raise Conflict(
            f"A release that is {state} cannot {action}. Legal now: {legal}.",
            code="release_state_conflict",
        )
    return after
