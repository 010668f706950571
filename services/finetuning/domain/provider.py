"""Decisions about a job at a provider: its phases, what its words mean, when to ask again."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections import deque
from collections.abc import Mapping
from enum import StrEnum

from services.finetuning.domain.progress import METRIC_NAMES
from services.finetuning.domain.states import TERMINAL, TRANSITIONS, State

MAX_EVENT_CHARACTERS = 1_000
EVENT_LEVELS = frozenset({"info", "warn", "error"})
# Where the result file is as OpenAI once served it. Source: research on OpenAI's cookbook, 2026.
_CSV_BEGINS = b"step,"
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_CODE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


class Phase(StrEnum):
    """How far a job has come at its provider; stored before the call that it names."""

    UPLOADING = "uploading"
    # From here on there may be a job at the provider that nobody has written down.
    CREATING = "creating"
    FOLLOWING = "following"
    COLLECTING = "collecting"
    # The job has ended here; the provider is told until its own has ended as well.
    STOPPING = "stopping"
    TIDYING = "tidying"
    DONE = "done"


# Where a run goes on when its job ends here, by cancellation or by an error.
ENDING: Mapping[Phase, Phase] = {
    Phase.UPLOADING: Phase.TIDYING,
    Phase.CREATING: Phase.STOPPING,
    Phase.FOLLOWING: Phase.STOPPING,
    Phase.COLLECTING: Phase.TIDYING,
    Phase.STOPPING: Phase.TIDYING,
    Phase.TIDYING: Phase.DONE,
    Phase.DONE: Phase.DONE,
}

# OpenAI's words; elsewhere one of them is also spelt with one l.
_MEANINGS: Mapping[str, State] = {
    "validating_files": State.QUEUED,
    "queued": State.QUEUED,
    "running": State.RUNNING,
    "paused": State.PAUSED,
    "succeeded": State.SUCCEEDED,
    "failed": State.FAILED,
    "cancelled": State.CANCELLED,
    "canceled": State.CANCELLED,
}


def meaning_of(status: str) -> State | None:
    """Our state for a provider's word; None for one nobody knows, which means to wait."""
    return _MEANINGS.get(status)


def has_ended(status: str) -> bool:
    """Whether a provider's word says that nothing will happen any more."""
    return meaning_of(status) in TERMINAL


def is_granted(wish: str, status: str) -> bool:
    """Whether a provider's word leaves nothing of a wish to `pause` or `resume` to be asked for."""
    meant = meaning_of(status)
    if meant in TERMINAL:
        return True
    return (meant is State.PAUSED) == (wish == "pause") and meant is not None


def moves_to(current: State, meant: State) -> tuple[State, ...]:
    """
    The states a job passes through to be where its provider has it; none where it stays.

    A provider is looked at now and then, so it may have gone through several in between. One that
    queues a running job again, as after a failed machine, is still running it for us.
    """
    if current is State.RUNNING and meant is State.QUEUED:
        return ()
    ways: deque[tuple[State, ...]] = deque([(current,)])
    seen = {current}
    while ways:
        way = ways.popleft()
        if way[-1] is meant:
            return way[1:]
        # In the order of the enum, so that the same question has the same answer.
        for following in State:
            if following in TRANSITIONS[way[-1]] - seen:
                seen.add(following)
                ways.append((*way, following))
    return ()


def seconds_to_next_look(quiet_looks: int, *, least: float, most: float, chance: float) -> float:
    """
    How long to leave a job alone in which nothing happened for *quiet_looks* looks.

    Args:
        quiet_looks: >= 0; each makes the pause half as long again.
        least: Shortest pause, seconds.
        most: Longest pause, seconds.
        chance: Uniform in [0, 1); a quarter of the pause is random, so that jobs spread.
    """
    pause = min(most, least * 1.5 ** min(quiet_looks, 32))
    return pause * (0.75 + 0.25 * chance)


def seconds_to_next_try(
    failures: int, retry_after: float | None, *, least: float, most: float, chance: float
) -> float:
    """
    How long to leave a provider alone that failed *failures* >= 1 times in a row.

    Capped exponential with full jitter; what the provider asks for is a lower bound.

    Source: "Exponential Backoff And Jitter", AWS architecture notes, 2015.
    """
    waited = chance * min(most, least * 2.0 ** min(failures, 32))
    return max(waited, retry_after or 0.0)


def one_line(text: str, most_characters: int = MAX_EVENT_CHARACTERS) -> str:
    """What a stranger wrote, without control characters and not longer than it should be."""
    return _UNPRINTABLE.sub(" ", text)[:most_characters]


def error_code(code: object) -> str | None:
    """A stranger's error code, if it looks like one."""
    return code if isinstance(code, str) and _CODE.fullmatch(code) else None


def plain_csv(content: bytes) -> bytes:
    """A result file as CSV; OpenAI served it in base64 for a long time."""
    if content.startswith(_CSV_BEGINS):
        return content
    try:
        decoded = base64.b64decode(content, validate=True)
    except binascii.Error:
        return content
    return decoded if decoded.startswith(_CSV_BEGINS) else content


def measured_data(data: object) -> dict[str, float] | None:
    """Of a metrics event: steps and OpenAI's metrics, as far as they are finite numbers."""
    if not isinstance(data, Mapping):
        return None
    numbers = {name: _finite(data.get(name)) for name in ("step", "total_steps", *METRIC_NAMES)}
    return {name: value for name, value in numbers.items() if value is not None}


def step_of(data: Mapping[str, float] | None) -> int | None:
    """The step a metrics event is about, where it says one that can be stored."""
    step = (data or {}).get("step")
    return int(step) if step is not None and 0 <= step < 2**31 and step == int(step) else None


def numbers_of(hyperparameters: Mapping[str, object]) -> dict[str, float]:
    """Those hyperparameters a provider has chosen, as far as they are what they should be."""
    found: dict[str, float] = {}
    for name in ("n_epochs", "batch_size"):
        value = hyperparameters.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31:
            found[name] = value
    for name in ("learning_rate_multiplier", "beta"):
        value = _finite(hyperparameters.get(name))
        if value is not None and value > 0:
            found[name] = value
    return found


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < 1e300 and math.isfinite(value) else None
