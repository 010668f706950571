"""How often and how fast another service is asked."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from services.cli.errors import CommandFailed

T = TypeVar("T")

# 0.5 s doubling to 30 s, as OpenAI's client begins; six attempts outlast a minute.
ATTEMPTS = 7
_FIRST_SECONDS = 0.5
_LONGEST_SECONDS = 30.0
# What asks for more is to be asked again by the user; OpenAI's client draws the line there as well.
_LONGEST_ASKED_SECONDS = 120.0


class TryAgain(Exception):
    """
    Something went wrong that may pass.

    Attributes:
        after_seconds: When the service wants to be asked again, if it said so.
        may_be_billed: Whether the service may have done the work, and charge for it.
    """

    def __init__(
        self, reason: str, *, after_seconds: float | None = None, may_be_billed: bool
    ) -> None:
        super().__init__(reason)
        self.after_seconds = after_seconds
        self.may_be_billed = may_be_billed


class Pace:
    """Lets so many calls pass in a minute, evenly."""

    def __init__(self, per_minute: float) -> None:
        self._interval_seconds = 60.0 / per_minute
        self._next = 0.0

    def wait(self) -> None:
        """Until the next call may be made."""
        now = time.monotonic()
        if now < self._next:
            time.sleep(self._next - now)
        self._next = max(now, self._next) + self._interval_seconds


def patiently(attempt: Callable[[], T], on_wait: Callable[[str], None]) -> T:
    """
    Attempt until it works, waiting longer each time, or as long as the service asks for.

    Args:
        attempt: Raises `TryAgain` when it may work later.
        on_wait: Hears why there is a wait, and how long.

    Raises:
        CommandFailed: It did not work in `ATTEMPTS` attempts, or the service asks for a long wait.
    """
    for number in range(1, ATTEMPTS + 1):
        try:
            return attempt()
        except TryAgain as error:
            seconds = _pause(number, error)
            if number == ATTEMPTS or seconds > _LONGEST_ASKED_SECONDS:
                raise CommandFailed(
                    f"{error} Gave up after {number} attempts"
                    f"{_asked(error)}; repeat the command later, it goes on from here."
                ) from error
            on_wait(f"{error} Attempt {number + 1} of {ATTEMPTS} in {seconds:.1f} s.")
            time.sleep(seconds)
    raise AssertionError("unreachable")


def _pause(number: int, error: TryAgain) -> float:
    if error.after_seconds is not None:
        return error.after_seconds
    # Full jitter, so that many clients do not come back together.
    return random.uniform(0, min(_LONGEST_SECONDS, _FIRST_SECONDS * 2 ** (number - 1)))


def _asked(error: TryAgain) -> str:
    after = error.after_seconds
    return f"; it asks to wait {after:.0f} s" if after is not None else ""
