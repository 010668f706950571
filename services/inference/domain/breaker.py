"""Whether a model may be asked: a circuit breaker that also keeps the rest a model asks for.

    closed --[so many failures one after the other]--> open --[pause over]--> half open
    half open --[its trial was answered]--> closed      --[its trial failed]--> open, twice as long

A call may end long after the state it began in; what it says then is old news and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum


class Ending(Enum):
    """What a call says of the model."""

    ANSWERED = "answered"
    FAILED = "failed"
    # Nothing was heard of it before its deadline.
    LATE = "late"
    # Given up by our side: the client went away, or another choice of its request failed.
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class Closed:
    """
    Calls go through.

    Attributes:
        epoch: Counts changes of state; a call carries the one it began in.
        failures: Failures one after the other since the last answer.
        rest_until: Nobody calls before, because the model asked for it.
    """

    epoch: int = 0
    failures: int = 0
    rest_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Open:
    """No call goes through before *until*; *pause* is how many seconds it was opened for."""

    epoch: int
    until: float
    pause: float


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """One trial is under way; another may follow at *retrial*, should nothing be heard of it."""

    epoch: int
    retrial: float
    pause: float


State = Closed | Open | HalfOpen


@dataclass(frozen=True, slots=True)
class Go:
    """The call goes through; this comes back with its ending, to say what it began in."""

    epoch: int
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Rest:
    """The model is well and asked for so many *seconds* without calls."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Refused:
    """The model is sick; it may be tried again after so many *seconds*."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Breaker:
    """
    The rules; the state is the caller's. Times are seconds on one monotonic clock.

    Attributes:
        failures: So many in a row open it, at least 1.
        pause_seconds: How long it stays open at first; doubled by every trial that fails.
        longest_pause_seconds: Ceiling of that.
        longest_rest_seconds: Longest rest a model is given, whatever it asks for.
    """

    failures: int
    pause_seconds: float
    longest_pause_seconds: float
    longest_rest_seconds: float

    def admit(self, state: State, now: float) -> tuple[State, Go | Rest | Refused]:
        """Whether a call may begin now, and the state after that decision."""
        match state:
            case Closed():
                wait = state.rest_until - now
                return state, Rest(wait) if wait > 0 else Go(state.epoch, state.failures)
            case Open():
                wait = state.until - now
            case HalfOpen():
                wait = state.retrial - now
        if wait > 0:
            return state, Refused(wait)
        return HalfOpen(state.epoch, now + state.pause, state.pause), Go(state.epoch)

    def settle(
        self, state: State, go: Go, ending: Ending, *, now: float, retry_after: float | None
    ) -> State:
        """
        The state after a call ended.

        Args:
            state: As it is now.
            go: With which the call began.
            ending: What became of the call.
            now: The time.
            retry_after: Seconds without calls that the model asked for, with a failure.
        """
        rest = min(retry_after or 0.0, self.longest_rest_seconds)
        match state:
            case Closed(epoch=current) if go.epoch == current:
                return self._after(state, go, ending, now, rest)
            case HalfOpen(epoch=current) if go.epoch == current:
                return self._after_trial(state, ending, now, rest)
        return state

    def _after(self, state: Closed, go: Go, ending: Ending, now: float, rest: float) -> State:
        if ending is Ending.ANSWERED:
            return replace(state, failures=0)
        if ending is Ending.ABANDONED:
            return state
        # What was under way when another call failed may have failed of the same: a process that
        # dies takes many with it, and is back for their repetitions. Those who waited until their
        # deadline have none.
        is_another = ending is Ending.LATE or go.failures >= state.failures
        failures = state.failures + is_another
        if failures >= self.failures:
            return self._open(state.epoch + 1, self.pause_seconds, rest, now)
        rest_until = max(state.rest_until, now + rest) if rest else state.rest_until
        return replace(state, failures=failures, rest_until=rest_until)

    def _after_trial(self, state: HalfOpen, ending: Ending, now: float, rest: float) -> State:
        match ending:
            case Ending.ANSWERED:
                return Closed(state.epoch + 1)
            case Ending.FAILED | Ending.LATE:
                pause = min(2 * state.pause, self.longest_pause_seconds)
                return self._open(state.epoch + 1, pause, rest, now)
            case Ending.ABANDONED:
                # Nothing was learnt; the next caller tries.
                return replace(state, retrial=now)

    @staticmethod
    def _open(epoch: int, pause: float, rest: float, now: float) -> Open:
        return Open(epoch, now + max(pause, rest), pause)


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """
    How many calls may be repetitions: a token bucket that first calls fill.

    However long a burst of failures lasts, calls are at most
    `(1 + share) * first calls + floor`.

    Attributes:
        share: Repetitions a first call pays for, 0 to 1.
        floor: Repetitions that are free to begin with, and the most that can be saved up.

    Source: "Timeouts, retries, and backoff with jitter", Amazon Builders' Library, 2019.
    """

    share: float
    floor: int

    def earn(self, tokens: float) -> float:
        """Tokens after a first call."""
        return min(float(self.floor), tokens + self.share)

    def spend(self, tokens: float) -> float | None:
        """Tokens after a repetition, or None when there is none left for it."""
        # Ten shares of a tenth make one repetition, whatever floats make of them.
        return max(0.0, tokens - 1.0) if tokens > 1.0 - 1e-9 else None
