"""The states of a batch and the one table of moves between them."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """OpenAI's names; they are the `status` of the API."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    FAILED = "failed"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.VALIDATING: frozenset({State.IN_PROGRESS, State.CANCELLING, State.FAILED}),
    State.IN_PROGRESS: frozenset({State.FINALIZING, State.CANCELLING, State.FAILED}),
    State.FINALIZING: frozenset({State.COMPLETED, State.EXPIRED, State.FAILED}),
    State.CANCELLING: frozenset({State.CANCELLED, State.FAILED}),
    State.COMPLETED: frozenset(),
    State.EXPIRED: frozenset(),
    State.CANCELLED: frozenset(),
    State.FAILED: frozenset(),
}

TERMINAL = frozenset(state for state, following in TRANSITIONS.items() if not following)


def sources_of(target: State) -> frozenset[State]:
    """The states from which a batch may move to *target*."""
    return frozenset(state for state, following in TRANSITIONS.items() if target in following)


def end_of(state: State, *, unanswered: int) -> State:
    """How a batch ends whose files are made: cancelled, completed, or out of time."""
    if state is State.CANCELLING:
        return State.CANCELLED
    return State.EXPIRED if unanswered else State.COMPLETED
